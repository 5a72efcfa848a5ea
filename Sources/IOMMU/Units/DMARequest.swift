// What a device sends to the unit in front of it, and what comes back.

/// What a request carries beside its address: the PASID TLP prefix (PCIe 6 §6.20.2), and whether the
/// function translates for itself.
package struct DMAAttributes: Hashable, Sendable, BitwiseCopyable {
  package var pasid: PASID?
  /// Privileged Mode Requested. Without PASID it has no meaning.
  package var isPrivileged = false
  /// Execute Requested: the bytes that are read are instructions. Without PASID it has no meaning.
  package var executes = false
  /// The function has ATS enabled: the request goes through its device TLB (PCIe 6 §10).
  package var usesATS = false

  package init(
    pasid: PASID? = nil, isPrivileged: Bool = false, executes: Bool = false, usesATS: Bool = false
  ) {
    self.pasid = pasid
    self.isPrivileged = isPrivileged && pasid != nil
    self.executes = executes && pasid != nil
    self.usesATS = usesATS
  }
}

extension DMAAttributes {
  @inline(never)
  fileprivate func access(writes: Bool) -> Permissions {
    let access: Permissions = writes ? .write : executes ? .execute : .read
    return isPrivileged ? access.privileged : access
  }
}

/// One upstream memory request. It may span pages; the unit answers for all of it.
struct DMARequest {
  let requester: RequesterID
  let pasid: PASID?
  let iova: IOVA
  let count: Int
  /// Reading, executing or writing, with privilege or without: one of the six.
  let access: Permissions
  /// AT: what the function says of the address.
  var addressType = DMAAddressType.untranslated

  init(
    requester: RequesterID, _ attributes: DMAAttributes, iova: IOVA, count: Int, writes: Bool
  ) {
    self.requester = requester
    pasid = attributes.pasid
    self.iova = iova
    self.count = count
    // Without a PASID nothing else can be asked for.
    access =
      attributes.pasid == nil
      ? writes ? .write : .read : attributes.access(writes: writes)
  }

  /// What configuration caches know its address space by.
  @inline(__always)
  var spaceKey: UInt64 {
    let low = pasid.map { UInt64($0.rawValue) &+ 1 } ?? 0
    return UInt64(requester.rawValue) << 32 | low
  }

  /// The last address of a request that is within one page; nil for all others.
  @inline(__always)
  var lastIOVAInPage: IOVA? {
    guard let last = lastIOVA, iova.rawValue ^ last.rawValue < UInt64(Frame.size) else {
      return nil
    }
    return last
  }

  /// Nil when the request wraps around the end of the address space.
  @inline(__always)
  var lastIOVA: IOVA? {
    let (last, overflow) = iova.rawValue.addingReportingOverflow(UInt64(count &- 1))
    return overflow ? nil : IOVA(last)
  }
}

/// The AT field of a request (PCIe 6 §10.2.1).
package enum DMAAddressType: UInt8, Sendable {
  case untranslated = 0
  case translationRequest = 1
  case translated = 2
}

/// How a request ended, as the device sees it.
package enum DMAOutcome: Hashable, Sendable {
  /// All bytes moved.
  case completed
  /// The unit blocked the request; no byte moved. Carries what was, or would have been, recorded.
  case fault(FaultRecord)
  /// The unit's answer to a translation request was that the page at this address may not be accessed
  /// so. Nothing is recorded, and no byte moved. The device may ask for the page.
  case denied(IOVA)
  /// The request faulted and waits; no byte moved. The receiver of
  /// ``DMAPort/setPageResponseReceiver(_:)`` will be told the answer: success means to try again.
  case stalled(group: UInt32)
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

/// The unit's answer to a translation request (PCIe 6 §10.2.3).
enum PageOutcome {
  /// The page, and what is allowed there, the asked access included.
  case page(Translation)
  /// A completion without that permission.
  case denied
  /// The request itself failed.
  case fault(FaultRecord)

  /// Of a page that is translated as for a memory request.
  /// - Parameter isDenial: whether a fault is answered as a page without rights, and not recorded.
  init(
    _ request: DMARequest,
    translate: (UnsafeMutableBufferPointer<DMASegment>) -> TranslationOutcome,
    isDenial: (FaultRecord) -> Bool
  ) {
    self = withUnsafeTemporaryAllocation(of: DMASegment.self, capacity: 1) { segment in
      switch translate(segment) {
      case .mapped:
        let physical = PhysicalAddress(segment[0].physical.rawValue & ~0xfff)
        return .page(
          Translation(physical: physical, shift: Frame.shift, permissions: request.access))
      case .unclaimed:
        return .denied
      case .fault(let record):
        return isDenial(record) ? .denied : .fault(record)
      }
    }
  }
}
