// SPDX-License-Identifier: Apache-2.0

internal import IOMMU
internal import SystemPackage
internal import UAPI

/// A HWPT with a nested domain (iommufd: struct iommufd_hwpt_nested): the client's own page table
/// as the first stage, a paging HWPT as the second.
final class NestedHWPT: HWPT, @unchecked Sendable {
  /// The object that the HWPT was allocated on, and is a user of: a paging HWPT or a vIOMMU.
  enum Base {
    case parent(PagingHWPT)
    case viommu(VIOMMU)

    fileprivate var object: Object {
      switch self {
      case .parent(let parent): parent
      case .viommu(let viommu): viommu
      }
    }

    fileprivate var parent: PagingHWPT {
      switch self {
      case .parent(let parent): parent
      case .viommu(let viommu): viommu.parent
      }
    }
  }

  let base: Base
  let domain: any NestedDomain
  /// The paging HWPT that is the second stage.
  var parent: PagingHWPT { base.parent }

  private init(id: ObjectID, on base: Base, domain: any NestedDomain, flags: NestedDomainFlags) {
    self.base = base
    self.domain = domain
    super.init(
      id: id, ioas: base.parent.ioas, domain: domain, isPASIDCompatible: flags.contains(.pasid))
    base.object.addUser()
  }

  /// Makes a nested domain. The ID is reserved; the caller finalizes or aborts.
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
        case .viommu(let viommu):
          try viommu.implementation.makeNestedDomain(for: requester, flags: flags, data: data)
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
