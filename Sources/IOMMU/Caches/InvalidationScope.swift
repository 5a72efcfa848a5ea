// SPDX-License-Identifier: Apache-2.0

/// The translations that an invalidation removes. Architectures name and encode these scopes
/// differently; all caches here use the same few.
package enum InvalidationScope: Hashable, Sendable {
  case global
  case domain(DomainID)
  /// The translations of a domain that intersect 2^`shift` bytes at the IOVA, a multiple of that
  /// size. All translations that went through a PASID's own tables are removed, because the range
  /// is one of second-stage input addresses and they are tagged with first-stage input addresses.
  case pages(DomainID, IOVA, shift: Int)
  /// The translations of a PASID's own tables.
  case pasid(DomainID, PASID)
  /// The translations of a PASID's own tables that intersect the range.
  case pasidPages(DomainID, PASID, IOVA, shift: Int)

  /// The domain of the translations. `nil` for all domains.
  var domain: DomainID? {
    switch self {
    case .global: nil
    case .domain(let domain), .pages(let domain, _, _), .pasid(let domain, _),
      .pasidPages(let domain, _, _, _):
      domain
    }
  }
}
