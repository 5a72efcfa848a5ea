// SPDX-License-Identifier: Apache-2.0

internal import IOMMU
internal import SystemPackage
internal import UAPI

/// A slice of a unit that one guest uses (iommufd: struct iommufd_viommu). vDEVICEs, event queues,
/// hardware queues and nested HWPTs that were allocated on the vIOMMU are users of it.
final class VIOMMU: Object, @unchecked Sendable {
  /// The nesting parent: its IOAS is the guest's physical memory.
  let parent: PagingHWPT
  /// The driver of the unit.
  let driver: any IOMMUDriver
  /// The driver's part (viommu_ops).
  let implementation: any VirtualIOMMU
  /// The services that the driver's part calls.
  let host: VIOMMUHost
  /// Guarded by the context's lock, oldest first.
  private(set) var hardwareQueues: [HWQueue] = []

  private init(
    id: ObjectID, on parent: PagingHWPT, driver: any IOMMUDriver,
    implementation: any VirtualIOMMU, host: VIOMMUHost
  ) {
    self.parent = parent
    self.driver = driver
    self.implementation = implementation
    self.host = host
    super.init(id: id, in: parent.context)
    parent.addUser()
  }

  /// Makes a vIOMMU for a reserved ID; the caller finalizes or aborts. Called without the context's
  /// lock, because the driver reads and writes the client's memory. The caller is a user of
  /// `parent`; `device` may be unbound meanwhile. iommufd: iommufd_viommu_alloc_ioctl()
  static func make(
    id: ObjectID, type: UInt32, for device: BoundDevice, on parent: PagingHWPT, data: UserData?
  ) throws(Errno) -> VIOMMU {
    let context = parent.context
    let driver = device.device.driver
    let host = VIOMMUHost(regions: context.mappableRegions)
    let implementation = try driver.makeVirtualIOMMU(
      type: type, on: parent.domain, for: device.device.requesterID, host: host, data: data)
    return context.lock.withLock {
      VIOMMU(id: id, on: parent, driver: driver, implementation: implementation, host: host)
    }
  }

  func add(_ queue: HWQueue) {
    context.lock.assertHeld()
    hardwareQueues.append(queue)
  }

  func remove(_ queue: HWQueue) {
    context.lock.assertHeld()
    hardwareQueues.removeAll { $0 === queue }
  }

  /// Also true while a process has a region of the vIOMMU mapped; in the kernel such a mapping is a
  /// user of the object. Callers are about to destroy the vIOMMU. So when no region is mapped, none
  /// can be mapped from then on.
  override var isInUse: Bool { super.isInUse || !host.closeRegions() }

  /// iommufd: iommufd_viommu_destroy()
  override func destroy() {
    context.lock.assertHeld()
    parent.dropUser()
  }
}
