// SPDX-License-Identifier: Apache-2.0

// Cache tags of the intel driver (struct cache_tag, drivers/iommu/intel/cache.c), and the
// invalidations that a change of a page table needs.

internal import IOMMU

/// A cache that can hold translations of a domain, and the domain ID and the PASID by which the
/// cache tags them.
struct VTdCacheTag: Hashable, Sendable {
  enum Cache: Hashable, Sendable {
    case iotlb
    /// The device TLB of a device with ATS.
    case deviceTLB(RequesterID)
  }

  let driver: VTdDriver
  let id: DomainID
  let pasid: PASID
  let cache: Cache
  /// Whether the domain is the second stage of the cached translations (intel:
  /// CACHE_TAG_NESTING_*).
  let isNesting: Bool

  /// intel: cache_tage_match()
  static func == (left: VTdCacheTag, right: VTdCacheTag) -> Bool {
    left.cache == right.cache && left.isNesting == right.isNesting && left.id == right.id
      && left.pasid == right.pasid && left.driver === right.driver
  }

  func hash(into hasher: inout Hasher) {
    hasher.combine(cache)
    hasher.combine(isNesting)
    hasher.combine(id)
    hasher.combine(pasid)
    hasher.combine(ObjectIdentifier(driver))
  }

  /// Returns the tags that one use of a domain needs: the IOTLB, and the device TLB of a device
  /// with ATS.
  static func tags(of use: VTdDomainUse, id: DomainID, isNesting: Bool) -> [VTdCacheTag] {
    func tag(_ cache: Cache) -> VTdCacheTag {
      VTdCacheTag(
        driver: use.driver, id: id, pasid: use.pasid, cache: cache, isNesting: isNesting)
    }
    return use.device.hasATS
      ? [tag(.iotlb), tag(.deviceTLB(use.device.requester))] : [tag(.iotlb)]
  }
}

/// The addresses of an invalidation: an aligned power of two of pages, or all addresses
/// (intel: calculate_psi_aligned_address()).
struct VTdFlushRange {
  /// `nil` for all addresses.
  let pages: (start: IOVA, shift: Int)?

  static let everything = VTdFlushRange(pages: nil)

  private init(pages: (start: IOVA, shift: Int)?) { self.pages = pages }

  /// The smallest aligned range that contains both addresses.
  /// - Parameter last: Less than `first` for a client that passes no page, or so many that the sum
  ///   wraps. The range is then the one that the kernel computes.
  init(_ first: IOVA, through last: IOVA) {
    let start = first.rawValue & ~0xfff
    let shift = max(12, UInt64.bitWidth - (start ^ last.rawValue).leadingZeroBitCount)
    pages = shift < 64 ? (IOVA((start >> UInt64(shift)) << UInt64(shift)), shift) : nil
  }
}

extension [VTdCacheTag] {
  /// Invalidates the range in every tagged cache: cache_tag_flush_range().
  /// - Parameters:
  ///   - usesFirstStage: ``VTdDomain/usesFirstStage`` of the domain that the tags belong to.
  ///   - isLeaf: Whether only leaf entries of the page table have changed (Invalidation Hint).
  func flush(_ range: VTdFlushRange, usesFirstStage: Bool, isLeaf: Bool) {
    var previous: VTdCacheTag?
    for tag in self {
      switch tag.cache {
      case .iotlb:
        // The domain ID alone tags second-stage translations, so one invalidation is for every
        // PASID.
        if !usesFirstStage, let previous, previous.driver === tag.driver, previous.id == tag.id {
          continue
        }
        previous = tag
        tag.flushIOTLB(range, usesFirstStage: usesFirstStage, isLeaf: isLeaf)
      case .deviceTLB(let requester):
        // A device TLB knows first-stage addresses only, so a change of the second stage
        // invalidates all of it.
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
