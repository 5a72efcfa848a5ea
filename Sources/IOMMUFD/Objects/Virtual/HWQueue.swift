// SPDX-License-Identifier: Apache-2.0

internal import IOMMU
internal import SystemPackage
internal import UAPI

/// A queue in the guest's memory that the hardware reads by physical address
/// (iommufd: struct iommufd_hw_queue). An internal access pins the memory, so that it cannot be
/// unmapped.
final class HWQueue: Object, @unchecked Sendable {
  private let viommu: VIOMMU
  private let queue: any HardwareQueue
  private let memory: PinnedQueueMemory

  private init(
    id: ObjectID, viommu: VIOMMU, queue: any HardwareQueue, memory: PinnedQueueMemory
  ) {
    self.viommu = viommu
    self.queue = queue
    self.memory = memory
    super.init(id: id, in: viommu.context)
    viommu.addUser()
    viommu.add(self)
    predecessor?.addUser()
  }

  /// Makes a hardware queue. The ID is reserved; the caller finalizes or aborts.
  /// iommufd: iommufd_hw_queue_alloc_ioctl()
  /// - Throws: `.notSupported` when the vIOMMU has no queues of `type`; what pinning and the driver
  ///   throw.
  static func make(
    type: UInt32, index: UInt32, iova: IOVA, length: UInt64, on viommu: VIOMMU,
    client: any Client
  ) throws(Errno) -> HWQueue {
    let context = viommu.context
    context.lock.assertHeld()
    guard viommu.implementation.supportsHardwareQueue(type: type) else { throw .notSupported }
    let id = try context.objects.reserve()
    do throws(Errno) {
      let memory = try PinnedQueueMemory(iova, length: length, of: viommu, client: client)
      do throws(Errno) {
        let queue = try viommu.implementation.makeHardwareQueue(
          HardwareQueueRequest(
            type: type, index: index, iova: iova, length: length, physical: memory.start))
        return HWQueue(id: id, viommu: viommu, queue: queue, memory: memory)
      } catch {
        memory.release()
        throw error
      }
    } catch {
      context.objects.abort(id)
      throw error
    }
  }

  /// The queue that this one depends on (iommufd_hw_queue_depend()). This queue is a user of it, so
  /// it is destroyed later.
  private var predecessor: HWQueue? {
    guard let other = queue.dependsOn else { return nil }
    return viommu.hardwareQueues.first { $0.queue === other }
  }

  /// iommufd: iommufd_hw_queue_destroy()
  override func destroy() {
    context.lock.assertHeld()
    let predecessor = predecessor
    queue.destroy()
    predecessor?.dropUser()
    memory.release()
    viommu.remove(self)
    viommu.dropUser()
  }
}

/// The pinned, physically contiguous pages of a hardware queue.
private struct PinnedQueueMemory {
  /// The physical address of the queue.
  let start: PhysicalAddress
  private let access: Access
  private let pin: AccessPin

  /// The kernel allocates an array of page pointers; one of this many is too large.
  private static let pageLimit: UInt64 = 1 << 28

  /// iommufd: iommufd_hw_queue_alloc_phys()
  /// - Throws: `.outOfRange` (ERANGE) when the length wraps, `.noMemory` for too many pages,
  ///   `.badAddress` when the pages are not contiguous; what the pin throws.
  init(
    _ iova: IOVA, length: UInt64, of viommu: VIOMMU, client: any Client
  ) throws(Errno) {
    let offset = iova.rawValue & 4095
    let (end, isTooLong) = length.addingReportingOverflow(offset)
    let (padded, isTooLongPadded) = end.addingReportingOverflow(4095)
    guard !isTooLong, !isTooLongPadded else { throw .outOfRange }
    let pages = padded >> 12
    guard pages < Self.pageLimit else { throw .noMemory }
    let access = try Access.makeInternal(in: viommu.context)
    do throws(Errno) {
      try access.attach(to: viommu.parent.ioas)
      let pin = try access.pin(
        IOVA(iova.rawValue - offset), length: pages << 12, forWriting: false, client: client)
      guard let run = pin.frames.first, pin.frames.count == 1 else {
        access.unpin(pin)
        throw Errno.badAddress
      }
      start = PhysicalAddress(run.physical.rawValue + offset)
      self.access = access
      self.pin = pin
    } catch {
      access.end()
      throw error
    }
  }

  func release() {
    access.unpin(pin)
    access.end()
  }
}
