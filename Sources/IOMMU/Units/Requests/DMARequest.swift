// SPDX-License-Identifier: Apache-2.0

// A request of a device to the unit in front of it, and how the request ends.

/// The attributes of a request besides address and length: the PASID TLP prefix (PCIe 6 §6.20.2),
/// and whether the function uses ATS.
package struct DMAAttributes: Hashable, Sendable, BitwiseCopyable {
  package var pasid: PASID?
  /// Privileged Mode Requested. It has no meaning without a PASID.
  package var isPrivileged = false
  /// Execute Requested: the function reads instructions. It has no meaning without a PASID.
  package var executes = false
  /// The function has ATS enabled, so the request goes through its device TLB (PCIe 6 §10).
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

/// One upstream memory request. The request may span pages; the unit answers for all of it.
struct DMARequest {
  let requester: RequesterID
  let pasid: PASID?
  let iova: IOVA
  let count: Int
  /// The requested access, exactly one permission: reading, executing or writing, privileged or
  /// not.
  let access: Permissions
  /// The AT field.
  var addressType = DMAAddressType.untranslated

  init(
    requester: RequesterID, _ attributes: DMAAttributes, iova: IOVA, count: Int, writes: Bool
  ) {
    self.requester = requester
    pasid = attributes.pasid
    self.iova = iova
    self.count = count
    // A request without PASID can be neither privileged nor for execution.
    access =
      attributes.pasid == nil
      ? writes ? .write : .read : attributes.access(writes: writes)
  }

  /// The key of the request's address space in the configuration caches: requester ID and PASID.
  @inline(__always)
  var addressSpaceKey: UInt64 {
    let low = pasid.map { UInt64($0.rawValue) &+ 1 } ?? 0
    return UInt64(requester.rawValue) << 32 | low
  }

  /// The last address of a request that is within one page; `nil` for every other request.
  @inline(__always)
  var lastIOVAInPage: IOVA? {
    guard let last = lastIOVA, iova.rawValue ^ last.rawValue < UInt64(Frame.size) else {
      return nil
    }
    return last
  }

  /// The last address; `nil` when the request wraps around the end of the address space.
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
  /// The unit blocked the request, and no byte moved. The record is what the unit recorded, or
  /// would have recorded if the fault were not suppressed.
  case fault(FaultRecord)
  /// The unit answered a translation request without the permission for the page at this address.
  /// Nothing is recorded, and no byte moved. The device may send a page request.
  case denied(IOVA)
  /// The request faulted and is stalled; no byte moved. The receiver that
  /// ``DMAPort/setPageResponseReceiver(_:)`` sets gets the answer. After a success the device
  /// issues the request again.
  case stalled(group: UInt32)
  /// There is no memory at a translated address, or no longer; some bytes may have moved.
  case aborted
}
