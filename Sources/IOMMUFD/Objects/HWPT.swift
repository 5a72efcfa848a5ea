// What a device can be attached to (iommufd: struct iommufd_hw_pagetable): a domain of a driver, as an
// object that clients name.

internal import IOMMU
internal import SystemPackage
internal import UAPI

class HWPT: Object, @unchecked Sendable {
  /// Whose mappings devices see: those of the domain, or of the one behind it.
  let ioas: IOAS
  private let anyDomain: any Domain
  /// Made with IOMMU_HWPT_ALLOC_PASID.
  let isPASIDCompatible: Bool
  /// Who answers page requests of devices that are attached. Set once, before the object is visible.
  private(set) var faultQueue: FaultQueue?

  init(id: ObjectID, ioas: IOAS, domain: any Domain, isPASIDCompatible: Bool) {
    self.ioas = ioas
    self.anyDomain = domain
    self.isPASIDCompatible = isPASIDCompatible
    super.init(id: id, in: ioas.context)
  }

  /// What a driver is told of it.
  var attachment: DomainAttachment {
    DomainAttachment(anyDomain, handlesPageRequests: faultQueue != nil)
  }

  func setFaultQueue(_ queue: FaultQueue) {
    assert(faultQueue == nil, "before the object is visible")
    queue.addUser()
    faultQueue = queue
  }

  /// Takes back an object that was never visible.
  func abort() {
    destroy()
    context.objects.abort(id)
  }

  /// A device that was attached let go of it. iommufd: iommufd_hw_pagetable_put()
  func put() { dropUser() }

  override func destroy() {
    context.lock.assertHeld()
    faultQueue?.dropUser()
  }
}
