// SPDX-License-Identifier: Apache-2.0

// Addresses that do not lead to memory for requests without PASID: the interrupt address range, and
// the range that HyperTransport reserved (§2.1.2 "Special Address Controls"). The unit has no
// interrupt table, and IV, SysMgt and IoCtl are clear in its device table entries. Therefore
// interrupts pass the unit, and the other requests are blocked.

extension AMDViUnit {
  /// The range to which a PCI function writes its interrupts.
  private static let interrupts: ClosedRange<UInt64> = 0xfee0_0000...0xfeef_ffff
  private static let hyperTransport: ClosedRange<UInt64> = 0xfd_0000_0000...0xff_ffff_ffff

  // Parts of the HyperTransport range.
  private static let reservedInterrupts: ClosedRange<UInt64> = 0xfd_0000_0000...0xfd_f7ff_ffff
  private static let interruptsAndEOI: ClosedRange<UInt64> = 0xfd_f800_0000...0xfd_f8ff_ffff
  private static let systemManagement: ClosedRange<UInt64> = 0xfd_f910_0000...0xfd_f91f_ffff
  private static let portIO: ClosedRange<UInt64> = 0xfd_fc00_0000...0xfd_fdff_ffff

  /// Returns whether the addresses from `first` to `last` include a special one.
  @inline(__always)
  func isSpecial(_ first: IOVA, _ last: IOVA) -> Bool {
    let (first, last) = (first.rawValue, last.rawValue)
    if first <= Self.interrupts.upperBound && last >= Self.interrupts.lowerBound { return true }
    return !capabilities.ignoresHyperTransportRange
      && first <= Self.hyperTransport.upperBound && last >= Self.hyperTransport.lowerBound
  }

  /// Returns the outcome of a request to a special address.
  @inline(never)
  func specialOutcome(_ request: DMARequest) -> TranslationOutcome {
    let address = request.iova.rawValue
    guard let type = invalidType(address, writes: request.access.contains(.write)) else {
      return .unclaimed
    }
    return .fault(
      fault(request, .invalidRequest(type, at: address), at: request.iova, FaultSuppression()))
  }

  /// Returns the type of the INVALID_DEVICE_REQUEST event (§2.5.9), or `nil` when the request is an
  /// interrupt or nothing responds at the address.
  private func invalidType(_ address: UInt64, writes: Bool) -> AMDViEvent.InvalidRequest? {
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
