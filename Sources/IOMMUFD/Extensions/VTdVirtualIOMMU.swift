// A guest's VT-d unit. Linux 7.3 has none; the extension that names devices as the guest does has one
// that knows devices and nothing more.

internal import CUAPI
internal import IOMMU
internal import SystemPackage

final class VTdVirtualIOMMU: VirtualIOMMU {
  static let type = IOMMUFD_SIM_VIOMMU_TYPE_VTD.rawValue

  private let parent: VTdPagingDomain
  private let capabilities: VTdCapabilities

  /// - Throws: `.invalidArgument` unless `parent` can be nested on.
  init(on parent: any PagingDomain, _ capabilities: VTdCapabilities) throws(Errno) {
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
