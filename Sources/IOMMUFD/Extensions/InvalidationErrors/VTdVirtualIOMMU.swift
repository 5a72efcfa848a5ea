// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
internal import IOMMU
internal import SystemPackage

/// A vIOMMU on a VT-d unit. Linux 7.3 has none for VT-d. This one only allocates nested domains and
/// holds vDEVICEs, by which `dev_id` of an entry can name a device as the guest does.
final class VTdVirtualIOMMU: VirtualIOMMU {
  static let type = VTdDriver.VirtualIOMMUType(type: IOMMUFD_SIM_VIOMMU_TYPE_VTD.rawValue) {
    (parent, capabilities) throws(Errno) in
    try VTdVirtualIOMMU(on: parent, capabilities)
  }

  private let parent: VTdPagingDomain
  private let capabilities: VTdCapabilities

  /// - Throws: `.invalidArgument` unless `parent` is a nesting parent of a VT-d unit.
  private init(on parent: any PagingDomain, _ capabilities: VTdCapabilities) throws(Errno) {
    guard let parent = parent as? VTdPagingDomain, parent.isNestParent else {
      throw .invalidArgument
    }
    self.parent = parent
    self.capabilities = capabilities
  }

  func makeNestedDomain(
    for device: RequesterID, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> any NestedDomain {
    try VTdNestedDomain(on: parent, flags: flags, data: data, capabilities)
  }
}
