// SPDX-License-Identifier: Apache-2.0

// A nested domain of the intel driver (drivers/iommu/intel/nested.c): a guest's first-stage page
// table, nested on a second-stage domain. The unit walks the page table in the guest's memory. The
// driver does not read the page table: it programs the pointer, and invalidates what the guest
// names.

internal import CUAPI
internal import IOMMU
package import SystemPackage

package final class VTdNestedDomain: NestedDomain, VTdDomain {
  private let configuration: iommu_hwpt_vtd_s1
  private let secondStage: VTdPagingDomain
  let usage = VTdDomainUsage()

  private enum AddressWidth {
    static let fourLevels: UInt32 = 48
    static let fiveLevels: UInt32 = 57
  }

  private struct Flags: OptionSet {
    let rawValue: UInt64
    static let supervisorRequests = Flags(rawValue: UInt64(IOMMU_VTD_S1_SRE.rawValue))
    static let extendedAccessed = Flags(rawValue: UInt64(IOMMU_VTD_S1_EAFE.rawValue))
    static let writeProtect = Flags(rawValue: UInt64(IOMMU_VTD_S1_WPE.rawValue))
  }

  private var flags: Flags { Flags(rawValue: configuration.flags) }

  /// intel: intel_iommu_domain_alloc_nested(). The members of the data are validated at attach.
  init(
    on parent: any PagingDomain, flags: NestedDomainFlags, data: UserData,
    _ capabilities: VTdCapabilities
  ) throws(Errno) {
    let type = IOMMU_HWPT_DATA_VTD_S1.rawValue
    guard capabilities.nested, flags.isSubset(of: .pasid), data.type == type else {
      throw .notSupported
    }
    guard let parent = parent as? VTdPagingDomain, parent.isNestParent else {
      throw .invalidArgument
    }
    secondStage = parent
    configuration = try data.load(
      iommu_hwpt_vtd_s1.self, type: type, minimumThrough: \.__reserved)
  }

  // MARK: VTdDomain

  var parent: VTdPagingDomain? { secondStage }
  var usesFirstStage: Bool { true }

  func requireCompatibility(with capabilities: VTdCapabilities) throws(Errno) {
    try secondStage.requireCompatibility(with: capabilities)
  }

  /// intel: intel_pasid_setup_nested()
  func requireValidEntry(for capabilities: VTdCapabilities) throws(Errno) {
    switch configuration.addr_width {
    case AddressWidth.fourLevels: break
    case AddressWidth.fiveLevels where capabilities.fiveLevelFirstStage: break
    default: throw .invalidArgument
    }
    guard !flags.contains(.supervisorRequests) || capabilities.privilegedRequests,
      !flags.contains(.extendedAccessed) || capabilities.extendedAccessedFlag
    else { throw .invalidArgument }
  }

  /// intel: pasid_pte_config_nested()
  func makeEntry(id: DomainID) -> PASIDTableEntry {
    var entry = secondStage.makeEntry(id: id)
    entry.type = .nested
    entry.firstStage = PhysicalAddress(configuration.pgtbl_addr)
    entry.firstStageLevels = configuration.addr_width == AddressWidth.fiveLevels ? 5 : 4
    entry.allowsPrivilege = flags.contains(.supervisorRequests)
    entry.protectsFromPrivilege = flags.isSuperset(of: [.supervisorRequests, .writeProtect])
    entry.updatesExtendedAccessed = flags.contains(.extendedAccessed)
    entry.snoopsPages = secondStage.forcesSnooping
    return entry
  }

  // MARK: NestedDomain

  /// intel: intel_nested_cache_invalidate_user()
  package func invalidate(_ entries: UserDataArray, handled: inout Int) throws(Errno) {
    let type = IOMMU_HWPT_INVALIDATE_DATA_VTD_S1.rawValue
    guard entries.type == type else { throw .invalidArgument }
    for index in 0..<entries.count {
      let entry = try entries.load(
        iommu_hwpt_vtd_s1_invalidate.self, at: index, type: type, minimumThrough: \.__reserved)
      try VTdGuestInvalidation(entry).submit(to: usage)
      handled += 1
    }
  }
}
