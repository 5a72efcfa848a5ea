// What a device sends to the unit in front of it, and what comes back.

/// One upstream memory request. It may span pages; the unit answers for all of it.
struct DMARequest {
  let requester: RequesterID
  let pasid: PASID?
  let iova: IOVA
  let count: Int
  /// Reading or writing; never both.
  let access: Permissions

  /// Nil when the request wraps around the end of the address space.
  @inline(__always)
  var lastIOVA: IOVA? {
    let (last, overflow) = iova.rawValue.addingReportingOverflow(UInt64(count &- 1))
    return overflow ? nil : IOVA(last)
  }
}

/// How a request ended, as the device sees it.
package enum DMAOutcome: Hashable, Sendable {
  /// All bytes moved.
  case completed
  /// The unit blocked the request; no byte moved. Carries what was, or would have been, recorded.
  case fault(FaultRecord)
  /// There is no memory at an address that translated, or not any more; some bytes may have moved.
  case aborted
}

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
}

/// Why, in the words of the architecture.
package enum FaultReason: Hashable, Sendable {
  case vtd(VTdFaultReason)
  case smmuv3(SMMUv3Event)

  /// The number in the unit's own fault records.
  package var code: UInt8 {
    switch self {
    case .vtd(let reason): reason.rawValue
    case .smmuv3(let event): event.kind.rawValue
    }
  }
}

/// Is told of every fault that is recorded. Called by the thread that issued the request, without
/// any lock of the unit but with that of the port: it must not issue requests itself.
package typealias FaultSink = @Sendable (FaultRecord) -> Void

/// A stretch of physical memory that part of a request is for.
struct DMASegment {
  var physical: PhysicalAddress
  var count: Int
}

/// The unit's answer to a whole request.
enum TranslationOutcome {
  /// The segments were stored, in the order of the addresses; this many.
  case mapped(segments: Int)
  case fault(FaultRecord)
  /// The addresses are not memory: nothing is recorded, and nobody completes the request.
  case unclaimed
}
