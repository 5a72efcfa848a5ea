// A guest's slice of a unit (iommufd: struct iommufd_viommu).

internal import IOMMU
internal import SystemPackage
internal import UAPI

final class VIOMMU: Object, @unchecked Sendable {
  /// The guest's memory.
  let parent: PagingHWPT
  /// Of the unit that it is a slice of.
  let driver: any IOMMUDriver
  /// The driver's side.
  let unit: any VirtualIOMMU
  /// Our side, as the driver sees it.
  let host: VIOMMUHost
  var hardwareQueues: [HWQueue] = []

  private init(
    id: ObjectID, on parent: PagingHWPT, driver: any IOMMUDriver, unit: any VirtualIOMMU,
    host: VIOMMUHost
  ) {
    self.parent = parent
    self.driver = driver
    self.unit = unit
    self.host = host
    super.init(id: id, in: parent.context)
    parent.addUser()
  }

  /// Makes one whose id is reserved, not visible. `parent` is kept by the caller; `device`
  /// may go meanwhile. Called without the lock, as the driver reads and writes the client's memory.
  /// iommufd: iommufd_viommu_alloc_ioctl()
  static func make(
    id: ObjectID, type: UInt32, for device: BoundDevice, on parent: PagingHWPT, data: UserData?
  ) throws(Errno) -> VIOMMU {
    let context = parent.context
    let driver = device.device.driver
    let host = VIOMMUHost(regions: context.mappableRegions)
    let unit = try driver.makeVirtualIOMMU(
      type: type, on: parent.domain, for: device.device.requesterID, host: host, data: data)
    return context.lock.withLock {
      VIOMMU(id: id, on: parent, driver: driver, unit: unit, host: host)
    }
  }

  /// A mapping of its pages, in whatever process, is a user that only the kernel counts. Who asks is
  /// about to destroy it, so what is not mapped stays so.
  override var isInUse: Bool { super.isInUse || !host.closeRegions() }

  /// iommufd: iommufd_viommu_destroy()
  override func destroy() {
    context.lock.assertHeld()
    parent.dropUser()
  }
}
