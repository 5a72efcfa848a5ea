// SPDX-License-Identifier: Apache-2.0

// The mock driver's side of a vIOMMU: two pages that the client can map and that hold a value of
// the client, devices whose caches the client can invalidate, two hardware queues of which the
// second depends on the first, and events that a test operation triggers.

internal import CUAPI
package import IOMMU
internal import Synchronization
package import SystemPackage

package final class MockVirtualIOMMU: VirtualIOMMU {
  private let parent: any PagingDomain
  private let unit: MockUnit
  private let host: any VirtualIOMMUHost
  /// The offset at which the client can map the two pages.
  private let regionOffset: UInt64?
  private let queues = Mutex([QueueSlot](repeating: QueueSlot(), count: queueCount))

  private static let pagesLength: UInt64 = 2 * 4096
  private static let queueCount = Int(IOMMU_TEST_HW_QUEUE_MAX)
  static let type = UInt32(IOMMU_VIOMMU_TYPE_SELFTEST)

  /// selftest.c: mock_viommu_init()
  init(
    on parent: any PagingDomain, unit: MockUnit, host: any VirtualIOMMUHost, data: UserData?
  ) throws(Errno) {
    self.parent = parent
    self.unit = unit
    self.host = host
    regionOffset = try data.map { data throws(Errno) in try Self.returnInput(data, host) }
  }

  deinit {
    if let regionOffset { host.removeRegion(at: regionOffset) }
  }

  /// Stores the client's input value in the client's struct and in memory that the client can map.
  /// - Returns: The offset of the memory.
  private static func returnInput(
    _ data: UserData, _ host: any VirtualIOMMUHost
  ) throws(Errno) -> UInt64 {
    var argument = try data.load(iommu_viommu_selftest.self, type: type, minimumThrough: \.out_data)
    let offset = try host.addRegion(
      holding: withUnsafeBytes(of: argument.in_data) { Array($0) }, length: pagesLength, share: nil)
    argument.out_data = argument.in_data
    argument.out_mmap_length = pagesLength
    argument.out_mmap_offset = offset
    do throws(Errno) {
      try data.store(argument, type: type, minimumThrough: \.out_data)
    } catch {
      host.removeRegion(at: offset)
      throw error
    }
    return offset
  }

  // MARK: VirtualIOMMU

  package func makeNestedDomain(
    for device: RequesterID, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> any NestedDomain {
    guard flags.isSubset(of: .pasid) else { throw .notSupported }
    return try MockNestedDomain(of: self, data: data)
  }

  func virtualID(of device: RequesterID) -> UInt64? { host.virtualID(of: device) }

  /// selftest.c: mock_viommu_cache_invalidate()
  package func invalidate(_ entries: UserDataArray, handled: inout Int) throws(Errno) {
    let type = UInt32(IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST)
    if entries.count == 0, entries.type == type { return }
    try entries.requireRoom(for: iommu_viommu_invalidate_selftest.self, handled: &handled)
    let all = try entries.loadAll(iommu_viommu_invalidate_selftest.self, type: type)
    for entry in all {
      guard entry.flags & ~UInt32(IOMMU_TEST_INVALIDATE_FLAG_ALL) == 0 else { throw .notSupported }
      guard entry.cache_id <= UInt32(MOCK_DEV_CACHE_ID_MAX),
        let device = host.device(virtualID: UInt64(entry.vdev_id))
      else { throw .invalidArgument }
      let isAll = entry.flags & UInt32(IOMMU_TEST_INVALIDATE_FLAG_ALL) != 0
      unit.invalidateCache(isAll ? nil : Int(entry.cache_id), of: device)
      handled += 1
    }
  }

  /// Reports an event of the device that the guest knows as `virtualID`
  /// (selftest.c: iommufd_test_trigger_vevent()).
  func triggerEvent(virtualID: UInt64) throws(Errno) {
    let event = iommu_viommu_event_selftest(virt_id: UInt32(truncatingIfNeeded: virtualID))
    try host.report(
      withUnsafeBytes(of: event) { Array($0) }, type: UInt32(IOMMU_VEVENTQ_TYPE_SELFTEST))
  }

  // MARK: Hardware queues

  package func supportsHardwareQueue(type: UInt32) -> Bool {
    type == UInt32(IOMMU_HW_QUEUE_TYPE_SELFTEST)
  }

  /// selftest.c: mock_hw_queue_init_phys()
  package func makeHardwareQueue(
    _ request: HardwareQueueRequest
  ) throws(Errno) -> any HardwareQueue {
    guard request.index < Self.queueCount else { throw .invalidArgument }
    let index = Int(request.index)
    return try queues.withLock { queues throws(Errno) in
      guard !queues[index].isUsed else { throw .fileExists }
      if index > 0, !queues[index - 1].isUsed { throw .ioError }
      let previous = index > 0 ? queues[index - 1].queue : nil
      guard parent.physicalAddress(of: request.iova) == request.physical else {
        throw .badAddress
      }
      let queue = MockHardwareQueue(after: previous, of: self)
      queues[index] = QueueSlot(isUsed: true, queue: queue)
      return queue
    }
  }

  /// Frees the first slot whichever queue is destroyed, because the kernel's driver does not record
  /// a queue's index. The second slot stays used for ever (selftest.c: mock_hw_queue_destroy()).
  fileprivate func removeQueue() {
    queues.withLock { $0[0] = QueueSlot() }
  }
}

/// A hardware queue of a ``MockVirtualIOMMU``.
package final class MockHardwareQueue: HardwareQueue {
  private let previous: MockHardwareQueue?
  private let viommu: MockVirtualIOMMU

  fileprivate init(after previous: MockHardwareQueue?, of viommu: MockVirtualIOMMU) {
    self.previous = previous
    self.viommu = viommu
  }

  package var dependsOn: (any HardwareQueue)? { previous }

  package func destroy() { viommu.removeQueue() }
}

private struct QueueSlot: Sendable {
  var isUsed = false
  weak var queue: MockHardwareQueue?
}
