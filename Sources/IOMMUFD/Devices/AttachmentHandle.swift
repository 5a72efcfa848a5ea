// What a page request needs to know of the attachment it comes through (iommufd: struct
// iommufd_attach_handle). Page requests come from the data plane, which must not take the control
// lock; so an IOMMU group keeps a handle for each of its attachments, under its own leaf lock.

internal import IOMMU
internal import Synchronization
internal import UAPI

final class AttachmentHandle: Sendable {
  /// Who is told; nil: nobody.
  let faultQueue: FaultQueue?
  /// The one that made the attachment, for its whole group.
  let device: ObjectID
  /// What is attached has a table of the client's.
  let isNested: Bool
  private let ended = Atomic(false)

  init(to hwpt: HWPT, by device: ObjectID) {
    faultQueue = hwpt.faultQueue
    self.device = device
    isNested = hwpt is NestedHWPT
  }

  var hasEnded: Bool { ended.load(ordering: .acquiring) }

  /// The attachment is no more, and so is every request that came through it.
  func end() {
    ended.store(true, ordering: .releasing)
    faultQueue?.drop(self)
  }
}

/// What the attachments of one group do with page requests.
struct AttachmentHandles: Sendable {
  private var handles: [PASID?: AttachmentHandle] = [:]

  subscript(pasid: PASID?) -> AttachmentHandle? {
    get { handles[pasid] }
    set { handles[pasid] = newValue }
  }

  /// iommu: find_fault_handler()
  /// - Parameter hasUserPASIDTable: the PASIDs that we do not know may be the client's own.
  func handler(for pasid: PASID?, hasUserPASIDTable: Bool) -> AttachmentHandle? {
    if let handle = handles[pasid] { return handle.faultQueue == nil ? nil : handle }
    guard hasUserPASIDTable, let plain = handles[nil], plain.isNested, plain.faultQueue != nil
    else { return nil }
    return plain
  }
}
