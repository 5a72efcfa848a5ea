// SPDX-License-Identifier: Apache-2.0

internal import IOMMU
internal import SystemPackage
internal import UAPI

/// A hardware page table that devices can be attached to (iommufd: struct iommufd_hw_pagetable): a
/// driver's domain with an object ID.
class HWPT: Object, @unchecked Sendable {
  /// The IOAS whose mappings devices see: that of the domain, or of the parent of a nested domain.
  let ioas: IOAS
  private let anyDomain: any Domain
  /// IOMMU_HWPT_ALLOC_PASID: the domain can be used by a device that has PASIDs attached.
  let isPASIDCompatible: Bool
  /// The queue for page requests of attached devices. Set at most once, before the object is
  /// published.
  private(set) var faultQueue: FaultQueue?

  init(id: ObjectID, ioas: IOAS, domain: any Domain, isPASIDCompatible: Bool) {
    self.ioas = ioas
    self.anyDomain = domain
    self.isPASIDCompatible = isPASIDCompatible
    super.init(id: id, in: ioas.context)
  }

  /// The argument of ``IOMMUDriver/attach(_:to:pasid:replacing:)`` for this HWPT.
  var attachment: DomainAttachment {
    DomainAttachment(anyDomain, handlesPageRequests: faultQueue != nil)
  }

  func setFaultQueue(_ queue: FaultQueue) {
    assert(faultQueue == nil, "set once, before the object is published")
    queue.addUser()
    faultQueue = queue
  }

  /// Destroys an object that was not published.
  func abort() {
    destroy()
    context.objects.abort(id)
  }

  /// Drops the user that an attached device was. iommufd: iommufd_hw_pagetable_put()
  func put() { dropUser() }

  override func destroy() {
    context.lock.assertHeld()
    faultQueue?.dropUser()
  }
}
