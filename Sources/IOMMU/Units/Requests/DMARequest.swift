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
