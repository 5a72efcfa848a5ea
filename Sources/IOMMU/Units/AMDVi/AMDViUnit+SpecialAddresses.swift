// Addresses that are no memory for requests without PASID: interrupts, and what HyperTransport used for other
// things (§2.1.2 "Special Address Controls"). The unit has no interrupt table: IV, SysMgt and IoCtl are
// clear in its entries, so that interrupts pass it and the rest is refused.

extension AMDViUnit {
  /// Where a PCI function writes its interrupts.
  private static let interrupts: ClosedRange<UInt64> = 0xfee0_0000...0xfeef_ffff
  private static let hyperTransport: ClosedRange<UInt64> = 0xfd_0000_0000...0xff_ffff_ffff

  // Parts of it.
  private static let reservedInterrupts: ClosedRange<UInt64> = 0xfd_0000_0000...0xfd_f7ff_ffff
  private static let interruptsAndEOI: ClosedRange<UInt64> = 0xfd_f800_0000...0xfd_f8ff_ffff
  private static let systemManagement: ClosedRange<UInt64> = 0xfd_f910_0000...0xfd_f91f_ffff
  private static let portIO: ClosedRange<UInt64> = 0xfd_fc00_0000...0xfd_fdff_ffff

  @inline(__always)
  func isSpecial(_ first: UInt64, _ last: UInt64) -> Bool {
    if first <= Self.interrupts.upperBound && last >= Self.interrupts.lowerBound { return true }
    return !capabilities.ignoresHyperTransportRange
      && first <= Self.hyperTransport.upperBound && last >= Self.hyperTransport.lowerBound
  }

  @inline(never)
  func specialOutcome(_ request: DMARequest, _ last: UInt64) -> TranslationOutcome {
    let address = request.iova.rawValue
    guard let type = refusal(address, writes: request.access.contains(.write)) else {
      return .unclaimed
    }
    return .fault(
      fault(request, .invalidRequest(type, at: address), at: address, Suppression()))
  }

  /// §2.5.9; nil: the request goes where interrupts go, or where nobody answers.
  private func refusal(_ address: UInt64, writes: Bool) -> AMDViEvent.InvalidRequest? {
    if Self.interrupts.contains(address) || Self.interruptsAndEOI.contains(address) {
      return writes ? nil : .readOfInterrupts
    }
    if Self.reservedInterrupts.contains(address) {
      return writes ? .reservedInterrupt : .readOfInterrupts
    }
    if Self.portIO.contains(address) { return .portIO }
    if writes && Self.systemManagement.contains(address) { return .systemManagement }
    return nil
  }
}
