// SPDX-License-Identifier: Apache-2.0

// The event of each way in which a walk can fail (§7.3).

extension SMMUv3Event {
  /// Returns the event of a failed stage 1 walk.
  /// - Parameter descriptor: the address of the last descriptor that the walk read.
  static func stage1(_ fault: WalkFault, at descriptor: PhysicalAddress) -> SMMUv3Event {
    var event = SMMUv3Event.stage1(fault.kind)
    if event.kind == .walkAborted {
      event.faultClass = .tableWalk
      event.fetchAddress = descriptor.rawValue
    }
    return event
  }

  /// Returns the event of a failed stage 2 walk.
  /// - Parameters:
  ///   - descriptor: the address of the last stage 2 descriptor that the walk read.
  ///   - address: the intermediate address that stage 2 was to translate.
  ///   - use: the purpose of the intermediate address.
  static func stage2(
    _ fault: WalkFault, at descriptor: PhysicalAddress, of address: UInt64,
    _ use: IntermediateAddressUse
  ) -> SMMUv3Event {
    var event = SMMUv3Event.stage2(fault.kind, use == .data ? .input : .tableWalk, address)
    if event.kind == .walkAborted {
      event.intermediateAddress = 0
      event.fetchAddress = descriptor.rawValue
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
