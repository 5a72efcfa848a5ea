// What an invalidation takes away. Architectures name and encode these differently; every cache
// here understands the same few.

package enum InvalidationScope: Hashable, Sendable {
  case global
  case domain(DomainID)
  /// Translations of a domain that intersect 2^`shift` bytes at `iova`, a multiple of that. Those
  /// that went through a PASID's own tables all go: the address is none that they know.
  case pages(DomainID, IOVA, shift: Int)
  /// What a PASID's own tables made, all of it or what intersects the range.
  case pasid(DomainID, PASID)
  case pasidPages(DomainID, PASID, IOVA, shift: Int)

  /// Nil: every domain.
  var domain: DomainID? {
    switch self {
    case .global: nil
    case .domain(let domain), .pages(let domain, _, _), .pasid(let domain, _),
      .pasidPages(let domain, _, _, _):
      domain
    }
  }
}
