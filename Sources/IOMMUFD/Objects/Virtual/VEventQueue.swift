// Where a guest's unit tells of its events of one type (iommufd: struct iommufd_veventq). The
// descriptor is one of the object's users and holds the context.

internal import CUAPI
internal import UAPI

final class VEventQueue: Object, @unchecked Sendable {
  let queue: EventQueue<VirtualEventQueue>
  private let viommu: VIOMMU
  private let type: UInt32

  /// - Parameter type: one that has no queue yet.
  init(id: ObjectID, type: UInt32, depth: Int, on viommu: VIOMMU) {
    self.type = type
    self.viommu = viommu
    queue = EventQueue(VirtualEventQueue(depth: depth))
    super.init(id: id, in: viommu.context)
    viommu.addUser()
    viommu.host.setQueue(queue, type: type)
  }

  func makeFile() -> QueueFile<VirtualEventQueue> {
    QueueFile(
      queue, .init(minimumRead: MemoryLayout<iommufd_vevent_header>.size),
      onRelease: { [self] in releaseDescriptor() })
  }

  /// iommufd: iommufd_veventq_destroy()
  override func destroy() {
    context.lock.assertHeld()
    viommu.host.setQueue(nil, type: type)
    viommu.dropUser()
  }
}
