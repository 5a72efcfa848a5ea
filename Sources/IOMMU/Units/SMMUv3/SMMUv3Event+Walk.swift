extension SMMUv3Event {
  /// - Parameter place: of the descriptor that the walk ended with.
  static func stage1(_ fault: WalkFault, at place: PhysicalAddress) -> SMMUv3Event {
    var event = SMMUv3Event.stage1(fault.kind)
    if event.kind == .walkAborted {
      event.operation = .tableWalk
      event.fetchAddress = place.rawValue
    }
    return event
  }

  /// - Parameters:
  ///   - place: of the descriptor of stage 2 that the walk ended with.
  ///   - address: what stage 2 was to translate, and for what.
  static func stage2(
    _ fault: WalkFault, at place: PhysicalAddress, of address: UInt64, _ use: IntermediateAddressUse
  ) -> SMMUv3Event {
    var event = SMMUv3Event.stage2(fault.kind, use == .data ? .input : .tableWalk, address)
    if event.kind == .walkAborted {
      event.intermediateAddress = 0
      event.fetchAddress = place.rawValue
    }
    if event.kind == .permission, case .entry = use { event.isTableRead = true }
    return event
  }
}

extension WalkFault {
  fileprivate var kind: SMMUv3Event.Kind {
    switch self {
    case .inaccessible, .unwritable: .walkAborted
    case .absent, .inputTooWide, .reserved: .translation
    case .outputTooWide: .addressSize
    case .accessFlagClear: .access
    case .denied: .permission
    }
  }
}
