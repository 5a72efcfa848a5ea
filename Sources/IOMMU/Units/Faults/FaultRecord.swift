/// A request that the unit blocked.
package struct FaultRecord: Hashable, Sendable {
  package let requester: RequesterID
  package let pasid: PASID?
  /// The first address that could not be translated.
  package let iova: IOVA
  package let access: Permissions
  package let reason: FaultReason
  /// Whether the tables ask for faults like this one not to be recorded (VT-d: FPD).
  package let isSuppressed: Bool
  package var addressType = DMAAddressType.untranslated

  /// Whether the request was to write (an atomic operation would do both).
  package var writes: Bool { !access.isDisjoint(with: [.write, .privilegedWrite]) }
  package var executes: Bool { !access.isDisjoint(with: [.execute, .privilegedExecute]) }
  package var isPrivileged: Bool {
    !access.isDisjoint(with: [.privilegedRead, .privilegedWrite, .privilegedExecute])
  }
}

/// Why, in the words of the architecture.
package enum FaultReason: Hashable, Sendable {
  case vtd(VTdFaultReason)
  case smmuv3(SMMUv3Event)
  case amdvi(AMDViEvent)

  /// The number in the unit's own fault records.
  package var code: UInt8 {
    switch self {
    case .vtd(let reason): reason.rawValue
    case .smmuv3(let event): event.kind.rawValue
    case .amdvi(let event): event.kind.rawValue
    }
  }
}

/// Is told of every fault that is recorded. Called by the thread that issued the request, without
/// any lock of the unit but with that of the port: it must not issue requests itself.
package typealias FaultSink = @Sendable (FaultRecord) -> Void
