// A nested domain of the intel driver (drivers/iommu/intel/nested.c): the guest's first-stage table, which
// the unit walks in the guest's memory, on top of a second-stage domain. The driver never looks into
// the table; it programs the pointer, and invalidates what the guest says has changed.

internal import CUAPI
internal import IOMMU
package import SystemPackage

package final class VTdNestedDomain: NestedDomain, VTdDomain {
  private let configuration: iommu_hwpt_vtd_s1
  private let secondStage: VTdPagingDomain
  let links = VTdDomainLinks()

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

  /// intel: intel_iommu_domain_alloc_nested(). Nothing of the data is looked at before an attach.
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
      try VTdGuestInvalidation(entry).submit(to: links)
      handled += 1
    }
  }
}

/// What one entry asks for.
struct VTdGuestInvalidation {
  private let range: VTdFlushRange
  private let isLeaf: Bool

  init(_ entry: iommu_hwpt_vtd_s1_invalidate) throws(Errno) {
    let leaf = IOMMU_VTD_INV_FLAGS_LEAF.rawValue
    guard entry.flags & ~leaf == 0, entry.__reserved == 0 else { throw .notSupported }
    guard entry.addr & 0xfff == 0, entry.npages != .max || entry.addr == 0 else {
      throw .invalidArgument
    }
    // The sum may wrap, and be less than the address when there are no pages.
    range = VTdFlushRange(entry.addr, through: entry.addr &+ entry.npages &<< 12 &- 1)
    isLeaf = entry.flags & leaf != 0
  }

  /// The driver waits until everything is done, and submits anew what has timed out; other errors of the
  /// hardware it clears and does not tell (qi_check_fault()).
  func submit(to links: VTdDomainLinks) {
    let (tags, uses) = links.tagsAndUses
    for tag in tags {
      var failure = tag.failure(among: uses)
      while failure?.error == .timeout { failure = tag.failure(among: uses) }
      if failure == nil { flush(tag) }
    }
  }

  /// The same for a client that wants to know.
  /// - Returns: what failed; nothing of the entry is done from there on.
  func submitOnce(
    to links: VTdDomainLinks
  ) -> (error: VTdInvalidationError, requester: RequesterID)? {
    let (tags, uses) = links.tagsAndUses
    for tag in tags {
      if let failure = tag.failure(among: uses) { return failure }
      flush(tag)
    }
    return nil
  }

  private func flush(_ tag: VTdCacheTag) {
    [tag].flush(range, usesFirstStage: true, isLeaf: isLeaf)
  }
}

extension VTdCacheTag {
  /// Of the one operation that it takes to tell this cache.
  fileprivate func failure(
    among uses: [VTdDomainUse]
  ) -> (error: VTdInvalidationError, requester: RequesterID)? {
    switch cache {
    case .deviceTLB(let requester):
      driver.unit.plannedFailure(of: .deviceTLB(requester))
    case .iotlb:
      driver.unit.plannedFailure(
        of: .iotlb(
          uses.filter { $0.driver === driver && $0.pasid == pasid }.map(\.device.requester)))
    }
  }
}
