// SPDX-License-Identifier: Apache-2.0

// What all domains of the intel driver share (struct dmar_domain): the ID of the domain in each
// unit that uses it, the PASID table entries that name it, and the tags of the caches that can hold
// its translations.

internal import IOMMU
internal import Synchronization
internal import SystemPackage

/// A domain that a PASID table entry can name.
protocol VTdDomain: Domain {
  var usage: VTdDomainUsage { get }
  /// The domain whose page table is the second stage of a nested domain. `nil` for a paging domain.
  var parent: VTdPagingDomain? { get }
  /// Whether translations are tagged with the PASID because a first-stage page table makes them
  /// (intel: intel_domain_use_piotlb()).
  var usesFirstStage: Bool { get }

  /// intel: paging_domain_compatible()
  func requireCompatibility(with capabilities: VTdCapabilities) throws(Errno)
  /// Checks what the kernel checks when it writes the PASID table entry.
  func requireValidEntry(for capabilities: VTdCapabilities) throws(Errno)
  func makeEntry(id: DomainID) -> PASIDTableEntry
}

/// A PASID table entry that names a domain, or that names another domain nested on it.
struct VTdDomainUse: Hashable, Sendable {
  let driver: VTdDriver
  let device: VTdDevice
  let pasid: PASID

  static func == (left: VTdDomainUse, right: VTdDomainUse) -> Bool {
    left.device === right.device && left.pasid == right.pasid
  }

  func hash(into hasher: inout Hasher) {
    hasher.combine(ObjectIdentifier(device))
    hasher.combine(pasid)
  }
}

/// The uses of one domain, guarded by one lock.
final class VTdDomainUsage: Sendable {
  private struct State {
    var units: [UnitUse] = []
    var tags = CountedSet<VTdCacheTag>()
    var uses = CountedSet<VTdDomainUse>()
  }

  /// The domain's ID in one unit, and the number of attachments through the unit (struct
  /// iommu_domain_info).
  private struct UnitUse {
    let driver: VTdDriver
    let id: DomainID
    var users: Int
  }

  private let state = Mutex(State())
  /// The number of uses. While it is 0, mapping needs no lock because there is no cache to
  /// invalidate.
  private let useCount = Atomic(0)

  /// The tag of every cache that can hold a translation of the domain.
  var tags: [VTdCacheTag] {
    useCount.load(ordering: .sequentiallyConsistent) == 0 ? [] : state.withLock { $0.tags.elements }
  }
  /// The tags and the uses at one point in time.
  var tagsAndUses: ([VTdCacheTag], [VTdDomainUse]) {
    state.withLock { ($0.tags.elements, $0.uses.elements) }
  }
  /// Every PASID table entry through which the domain is used.
  var uses: [VTdDomainUse] { state.withLock { $0.uses.elements } }

  /// Counts one more attachment through `driver`'s unit, and allocates a domain ID for the first
  /// one (intel: domain_attach_iommu()).
  /// - Returns: The domain's ID in the unit.
  /// - Throws: `.noSpace` when the unit has no free domain ID.
  func acquireID(in driver: VTdDriver) throws(Errno) -> DomainID {
    try state.withLock { state throws(Errno) in
      if let index = state.units.firstIndex(where: { $0.driver === driver }) {
        state.units[index].users += 1
        return state.units[index].id
      }
      let id = try driver.domainIDs.allocateDomainID()
      state.units.append(UnitUse(driver: driver, id: id, users: 1))
      return id
    }
  }

  /// Counts one attachment less, and releases the domain ID with the last one
  /// (intel: domain_detach_iommu()).
  func releaseID(in driver: VTdDriver) {
    state.withLock { state in
      guard let index = state.units.firstIndex(where: { $0.driver === driver }) else { return }
      state.units[index].users -= 1
      if state.units[index].users == 0 {
        driver.domainIDs.release(state.units.remove(at: index).id)
      }
    }
  }

  /// intel: cache_tag_assign_domain(), cache_tag_assign_parent_domain()
  func add(_ use: VTdDomainUse, id: DomainID, isNesting: Bool) {
    useCount.wrappingAdd(1, ordering: .sequentiallyConsistent)
    state.withLock { state in
      state.uses.add(use)
      for tag in VTdCacheTag.tags(of: use, id: id, isNesting: isNesting) { state.tags.add(tag) }
    }
  }

  /// intel: cache_tag_unassign_domain()
  func remove(_ use: VTdDomainUse, id: DomainID, isNesting: Bool) {
    state.withLock { state in
      state.uses.remove(use)
      for tag in VTdCacheTag.tags(of: use, id: id, isNesting: isNesting) { state.tags.remove(tag) }
    }
    useCount.wrappingSubtract(1, ordering: .sequentiallyConsistent)
  }
}
