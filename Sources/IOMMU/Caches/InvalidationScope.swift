// What an invalidation takes away. Architectures name and encode these differently; every cache
// here understands the same few.

/// The tag of a translation: which address space, as the unit's tables call it (VT-d: domain id).
package struct DomainID: RawRepresentable, Hashable, Comparable, Sendable, BitwiseCopyable {
  package let rawValue: UInt16
  @inline(__always) package init(rawValue: UInt16) { self.rawValue = rawValue }
  package static func < (a: DomainID, b: DomainID) -> Bool { a.rawValue < b.rawValue }
}

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
