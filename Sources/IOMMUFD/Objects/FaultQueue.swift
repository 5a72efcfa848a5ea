// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
internal import IOMMU
internal import UAPI

/// The object of IOMMU_FAULT_QUEUE_ALLOC (iommufd: struct iommufd_fault). A client reads the page
/// requests of devices that are attached to the queue's HWPTs from the descriptor and writes the
/// responses to it. The descriptor is a user of the object and keeps the context alive.
final class FaultQueue: Object, @unchecked Sendable {
  let queue = EventQueue(PageRequestQueue())

  func makeFile() -> QueueFile<PageRequestQueue> {
    QueueFile(
      queue,
      .init(
        recordSize: MemoryLayout<iommu_hwpt_pgfault>.size,
        responseSize: MemoryLayout<iommu_hwpt_page_response>.size, inodeName: "iommufd-pgfault"),
      onRelease: { [self] in releaseDescriptor() })
  }

  /// Appends a page request group. When the queue does not accept the group, the response is
  /// FAILURE. Called by a thread that does DMA, without the context's lock.
  func deliver(_ group: PageRequestGroup) {
    guard queue.withContents({ $0.append(group) }) else { return group.respond(.failure) }
    queue.notify()
  }

  /// Responds INVALID to every group of `attachment`, which has ended; `nil` means all groups.
  func respondInvalid(_ attachment: AttachmentHandle?) {
    let groups = queue.withContents { $0.remove(attachment) }
    for group in groups { group.respond(.invalid) }
    if !groups.isEmpty { queue.notify() }
  }

  /// iommufd: iommufd_fault_destroy()
  override func destroy() {
    context.lock.assertHeld()
    respondInvalid(nil)
  }
}
