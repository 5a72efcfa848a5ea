// What all domains of the intel driver have in common (struct dmar_domain): the units that use them, each
// with an id of its own, and the caches that may hold their translations (struct cache_tag). When the
// tables of a domain change, every cache with a tag of it is told.

internal import IOMMU
internal import Synchronization
internal import SystemPackage

/// A domain that PASID table entries can name.
protocol VTdDomain: Domain {
  var links: VTdDomainLinks { get }
  /// The domain whose tables the second stage of translations goes through; nil: there is none.
  var parent: VTdPagingDomain? { get }
  /// Its translations are those of a PASID's own tables. intel: intel_domain_use_piotlb()
  var usesFirstStage: Bool { get }

  /// intel: paging_domain_compatible()
  func requireCompatibility(with capabilities: VTdCapabilities) throws(Errno)
  /// What else keeps a PASID table entry from being made.
  func requireValidEntry(for capabilities: VTdCapabilities) throws(Errno)
  func makeEntry(id: DomainID) -> PASIDTableEntry
}

/// Which caches may hold translations of a domain, and by which name they know it.
struct VTdCacheTag: Sendable {
  enum Cache: Hashable, Sendable {
    case iotlb
    /// Of a device that translates for itself.
    case deviceTLB(RequesterID)
  }

  let driver: VTdDriver
  let id: DomainID
  let pasid: PASID
  let cache: Cache
  /// The domain is the second stage of what the cache holds. intel: CACHE_TAG_NESTING_*
  let isNesting: Bool
  var users = 1

  func isSame(as other: VTdCacheTag) -> Bool {
    cache == other.cache && isNesting == other.isNesting && id == other.id
      && pasid == other.pasid && driver === other.driver
  }
}

/// A PASID table entry that names a domain, or another domain nested on it.
struct VTdDomainUse: Sendable {
  let driver: VTdDriver
  let device: VTdDevice
  let pasid: PASID
}

final class VTdDomainLinks: Sendable {
  private struct State {
    var units: [Unit] = []
    var tags: [VTdCacheTag] = []
    var uses: [VTdDomainUse] = []
  }

  /// The unit of one driver, with the number of attachments that need it.
  private struct Unit {
    let driver: VTdDriver
    let id: DomainID
    var users: Int
  }

  private let state = Mutex(State())
  /// How many uses there are: a domain that is filled before it is attached has nobody to tell.
  private let useCount = Atomic(0)

  /// Every cache that is to be told of a change.
  var tags: [VTdCacheTag] {
    useCount.load(ordering: .sequentiallyConsistent) == 0 ? [] : state.withLock { $0.tags }
  }
  /// Both, as they are at one time.
  var tagsAndUses: ([VTdCacheTag], [VTdDomainUse]) { state.withLock { ($0.tags, $0.uses) } }
  /// Every PASID table entry through which the domain is used.
  var uses: [VTdDomainUse] { state.withLock { $0.uses } }

  /// Counts one more attachment through `driver`'s unit. intel: domain_attach_iommu()
  /// - Returns: the domain's id there.
  func take(for driver: VTdDriver) throws(Errno) -> DomainID {
    try state.withLock { state throws(Errno) in
      if let index = state.units.firstIndex(where: { $0.driver === driver }) {
        state.units[index].users += 1
        return state.units[index].id
      }
      let id = DomainID(rawValue: try driver.domainIDs.take())
      state.units.append(Unit(driver: driver, id: id, users: 1))
      return id
    }
  }

  /// intel: domain_detach_iommu()
  func give(back driver: VTdDriver) {
    state.withLock { state in
      guard let index = state.units.firstIndex(where: { $0.driver === driver }) else { return }
      state.units[index].users -= 1
      if state.units[index].users == 0 {
        driver.domainIDs.give(state.units.remove(at: index).id.rawValue)
      }
    }
  }

  /// intel: cache_tag_assign_domain(), cache_tag_assign_parent_domain()
  func add(_ use: VTdDomainUse, id: DomainID, isNesting: Bool) {
    useCount.wrappingAdd(1, ordering: .sequentiallyConsistent)
    state.withLock { state in
      state.uses.append(use)
      for tag in Self.tags(of: use, id: id, isNesting: isNesting) {
        if let index = state.tags.firstIndex(where: { $0.isSame(as: tag) }) {
          state.tags[index].users += 1
        } else {
          state.tags.append(tag)
        }
      }
    }
  }

  /// intel: cache_tag_unassign_domain()
  func remove(_ use: VTdDomainUse, id: DomainID, isNesting: Bool) {
    state.withLock { state in
      if let index = state.uses.firstIndex(where: {
        $0.device === use.device && $0.pasid == use.pasid
      }) {
        state.uses.remove(at: index)
      }
      for tag in Self.tags(of: use, id: id, isNesting: isNesting) {
        guard let index = state.tags.firstIndex(where: { $0.isSame(as: tag) }) else { continue }
        state.tags[index].users -= 1
        if state.tags[index].users == 0 { state.tags.remove(at: index) }
      }
    }
    useCount.wrappingSubtract(1, ordering: .sequentiallyConsistent)
  }

  private static func tags(
    of use: VTdDomainUse, id: DomainID, isNesting: Bool
  ) -> [VTdCacheTag] {
    func tag(_ cache: VTdCacheTag.Cache) -> VTdCacheTag {
      VTdCacheTag(
        driver: use.driver, id: id, pasid: use.pasid, cache: cache, isNesting: isNesting)
    }
    return use.device.hasATS
      ? [tag(.iotlb), tag(.deviceTLB(use.device.requester))] : [tag(.iotlb)]
  }
}

/// Addresses as invalidations can name them: an aligned power of two of pages, or everything.
/// intel: calculate_psi_aligned_address()
struct VTdFlushRange {
  /// Nil: everything.
  let pages: (start: IOVA, shift: Int)?

  static let everything = VTdFlushRange(pages: nil)

  private init(pages: (start: IOVA, shift: Int)?) { self.pages = pages }

  /// - Parameter last: may be less than `first`; what comes of it is what the driver makes of it.
  init(_ first: UInt64, through last: UInt64) {
    let start = first & ~0xfff
    let shift = max(12, UInt64.bitWidth - (start ^ last).leadingZeroBitCount)
    pages = shift < 64 ? (IOVA((start >> UInt64(shift)) << UInt64(shift)), shift) : nil
  }
}

extension [VTdCacheTag] {
  /// Tells the caches. intel: cache_tag_flush_range()
  /// - Parameters:
  ///   - usesFirstStage: of the domain whose tags they are.
  ///   - isLeaf: only leaves have changed (ih).
  func flush(_ range: VTdFlushRange, usesFirstStage: Bool, isLeaf: Bool) {
    var previous: VTdCacheTag?
    for tag in self {
      switch tag.cache {
      case .iotlb:
        // Second-stage translations are the domain's, whatever the PASID.
        if !usesFirstStage, let previous, previous.driver === tag.driver, previous.id == tag.id {
          continue
        }
        previous = tag
        tag.flushIOTLB(range, usesFirstStage: usesFirstStage, isLeaf: isLeaf)
      case .deviceTLB(let requester):
        // A device knows no intermediate addresses.
        let pages = tag.isNesting ? nil : range.pages
        tag.driver.unit.invalidateDeviceTLB(
          of: requester, pages.map { .pages($0.start, shift: $0.shift) } ?? .all,
          pasid: tag.pasid == VTdDevice.ridPASID ? nil : tag.pasid)
      }
    }
  }
}

extension VTdCacheTag {
  /// intel: cache_tag_flush_iotlb()
  fileprivate func flushIOTLB(_ range: VTdFlushRange, usesFirstStage: Bool, isLeaf: Bool) {
    let unit = driver.unit
    if usesFirstStage {
      guard let pages = range.pages else { return unit.invalidateIOTLB(.pasid(id, pasid)) }
      return unit.invalidateIOTLB(
        .pasidPages(id, pasid, pages.start, shift: pages.shift), keepsPagingStructures: isLeaf)
    }
    guard let pages = range.pages, pages.shift - 12 <= unit.capabilities.maximumAddressMask
    else { return unit.invalidateIOTLB(.domain(id)) }
    unit.invalidateIOTLB(
      .pages(id, pages.start, shift: pages.shift), keepsPagingStructures: isLeaf)
  }
}
