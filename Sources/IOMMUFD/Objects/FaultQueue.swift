// Who answers the page requests of devices that are attached to a HWPT: a client, through a descriptor
// (iommufd: struct iommufd_fault). The descriptor is one of the object's users and holds the context.

internal import CUAPI
internal import IOMMU
internal import UAPI

final class FaultQueue: Object, @unchecked Sendable {
  let queue = EventQueue(PageRequestQueue())

  func makeFile() -> QueueFile<PageRequestQueue> {
    QueueFile(
      queue,
      .init(
        recordSize: MemoryLayout<iommu_hwpt_pgfault>.size,
        responseSize: MemoryLayout<iommu_hwpt_page_response>.size),
      onRelease: { [self] in releaseDescriptor() })
  }

  /// Called by the thread of the DMA.
  func deliver(_ group: PageRequestGroup) {
    guard queue.withContents({ $0.append(group) }) else { return group.answer(.failure) }
    queue.wake()
  }

  /// Answers for the client what came through an attachment that has ended; nil: everything.
  func drop(_ attachment: AttachmentHandle?) {
    let groups = queue.withContents { $0.drop(attachment) }
    for group in groups { group.answer(.invalid) }
    if !groups.isEmpty { queue.wake() }
  }

  /// iommufd: iommufd_fault_destroy()
  override func destroy() {
    context.lock.assertHeld()
    drop(nil)
  }
}
