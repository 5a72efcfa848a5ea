// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
internal import UAPI

/// The object of IOMMU_VEVENTQ_ALLOC (iommufd: struct iommufd_veventq): a queue for the events of
/// one type that a vIOMMU reports. The descriptor is a user of the object and keeps the context
/// alive.
final class VEventQueue: Object, @unchecked Sendable {
  let queue: EventQueue<VEventQueueContents>
  private let viommu: VIOMMU
  private let type: UInt32

  /// - Parameters:
  ///   - type: a type that `viommu` has no queue for.
  ///   - depth: the number of events with data that the queue holds.
  init(id: ObjectID, type: UInt32, depth: Int, on viommu: VIOMMU) {
    self.type = type
    self.viommu = viommu
    queue = EventQueue(VEventQueueContents(depth: depth))
    super.init(id: id, in: viommu.context)
    viommu.addUser()
    viommu.host.setQueue(queue, type: type)
  }

  func makeFile() -> QueueFile<VEventQueueContents> {
    QueueFile(
      queue,
      .init(
        minimumRead: MemoryLayout<iommufd_vevent_header>.size, inodeName: "iommufd-viommu-event"),
      onRelease: { [self] in releaseDescriptor() })
  }

  /// iommufd: iommufd_veventq_destroy()
  override func destroy() {
    context.lock.assertHeld()
    viommu.host.setQueue(nil, type: type)
    viommu.dropUser()
  }
}
