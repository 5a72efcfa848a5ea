// A guest's slice of a unit (iommufd: struct iommufd_viommu).

internal import IOMMU
internal import UAPI

final class VIOMMU: Object, @unchecked Sendable {
  /// The guest's memory.
  let parent: PagingHWPT
  /// Of the unit that it is a slice of.
  let driver: any IOMMUDriver
  /// The driver's side.
  let unit: any VirtualIOMMU

  init(id: ObjectID, on parent: PagingHWPT, driver: any IOMMUDriver, unit: any VirtualIOMMU) {
    self.parent = parent
    self.driver = driver
    self.unit = unit
    super.init(id: id, in: parent.context)
    parent.addUser()
  }

  /// iommufd: iommufd_viommu_destroy()
  override func destroy() {
    context.lock.assertHeld()
    parent.dropUser()
  }
}
