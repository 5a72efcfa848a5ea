// SPDX-License-Identifier: Apache-2.0

// An attachment as page requests see it (iommufd: struct iommufd_attach_handle).
//
// Page requests are reported by threads that do DMA, which must not take the context's lock. So the
// IOMMU group has the handles of its attachments, under its own leaf lock. A handle is immutable
// except for its end.

internal import IOMMU
internal import Synchronization
internal import UAPI

final class AttachmentHandle: Sendable {
  /// The fault queue of the HWPT. `nil` when the HWPT has none: requests then fail.
  let faultQueue: FaultQueue?
  /// The device that made the attachment for its group.
  let device: ObjectID
  /// Whether the HWPT is a nested one.
  let isNested: Bool
  private let ended = Atomic(false)

  init(to hwpt: HWPT, by device: ObjectID) {
    faultQueue = hwpt.faultQueue
    self.device = device
    isNested = hwpt is NestedHWPT
  }

  var hasEnded: Bool { ended.load(ordering: .acquiring) }

  /// Ends the attachment. Page requests that came through it get the response INVALID.
  func end() {
    ended.store(true, ordering: .releasing)
    faultQueue?.respondInvalid(self)
  }
}

/// The handles of the attachments of one group, by PASID; `nil` is the attachment without PASID.
struct AttachmentHandles: Sendable {
  private var handles: [PASID?: AttachmentHandle] = [:]

  subscript(pasid: PASID?) -> AttachmentHandle? {
    get { handles[pasid] }
    set { handles[pasid] = newValue }
  }

  /// Returns the handle that handles page requests with `pasid`. iommu: find_fault_handler()
  /// - Parameter hasUserPASIDTable: a PASID without attachment may be in the PASID table of the
  ///   nested domain that is attached without PASID.
  func handler(for pasid: PASID?, hasUserPASIDTable: Bool) -> AttachmentHandle? {
    if let handle = handles[pasid] { return handle.faultQueue == nil ? nil : handle }
    guard hasUserPASIDTable, let plain = handles[nil], plain.isNested, plain.faultQueue != nil
    else { return nil }
    return plain
  }
}
