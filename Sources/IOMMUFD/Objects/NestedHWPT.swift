// A page table of the client's in front of one of ours (iommufd: struct iommufd_hwpt_nested).

internal import IOMMU
internal import SystemPackage
internal import UAPI

final class NestedHWPT: HWPT, @unchecked Sendable {
  /// What it stands on, and depends on: a HWPT of ours, or a guest's unit, which has one.
  enum Base {
    case parent(PagingHWPT)
    case virtualUnit(VIOMMU)

    fileprivate var object: Object {
      switch self {
      case .parent(let parent): parent
      case .virtualUnit(let unit): unit
      }
    }

    fileprivate var parent: PagingHWPT {
      switch self {
      case .parent(let parent): parent
      case .virtualUnit(let unit): unit.parent
      }
    }
  }

  let base: Base
  let domain: any NestedDomain
  var parent: PagingHWPT { base.parent }

  private init(id: ObjectID, on base: Base, domain: any NestedDomain, flags: NestedDomainFlags) {
    self.base = base
    self.domain = domain
    super.init(
      id: id, ioas: base.parent.ioas, domain: domain, isPASIDCompatible: flags.contains(.pasid))
    base.object.addUser()
  }

  /// Reserved, not visible: the caller finalizes or aborts.
  /// iommufd: iommufd_hwpt_nested_alloc(), iommufd_viommu_alloc_hwpt_nested()
  static func make(
    for device: BoundDevice, on base: Base, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> NestedHWPT {
    let context = device.context
    context.lock.assertHeld()
    let id = try context.objects.reserve()
    do throws(Errno) {
      let requester = device.device.requesterID
      let domain =
        switch base {
        case .parent(let parent):
          try device.device.driver.makeNestedDomain(
            on: parent.domain, for: requester, flags: flags, data: data)
        case .virtualUnit(let unit):
          try unit.unit.makeNestedDomain(for: requester, flags: flags, data: data)
        }
      return NestedHWPT(id: id, on: base, domain: domain, flags: flags)
    } catch {
      context.objects.abort(id)
      throw error
    }
  }

  /// iommufd: iommufd_hwpt_nested_destroy()
  override func destroy() {
    super.destroy()
    base.object.dropUser()
  }
}
