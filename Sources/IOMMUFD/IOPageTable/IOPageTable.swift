// The mappings of one I/O address space (iommufd: struct io_pagetable): which client pages an IOVA
// means, and the hardware page tables that say the same.
//
// An *area* is one mapped range. Areas are disjoint, are removed whole, and lie in the IOVAs that
// are not *reserved*: by a device (its MSI window), or by a domain (what its tables cannot reach).
// *Allowed* ranges restrict nothing but the automatic choice of an IOVA, and promise that nobody will
// reserve there. A *domain* is one hardware page table; every domain maps every area, or nothing has
// changed. Without a domain nothing is pinned: an area is then only the memory of what was asked for. An
// *access* pins what it uses, and only while it does.
//
// `last` is inclusive throughout, for the last IOVA of all is a valid one.
//
// Everything here is guarded by the control lock of the context that the I/O address space belongs to.

package import IOMMU
internal import SystemPackage

package final class IOPageTable: @unchecked Sendable {
  /// The kernel's bound is its memory.
  static let areaLimit = 1 << 20

  let memory: PhysicalMemory
  let host: PinningHost

  let areas = IntervalMap<Area>()
  var reservations = Reservations()
  var allowed: [ClosedRange<UInt64>] = []
  var domains: [any PagingDomain] = []
  var accesses: [any PageTableAccess] = []
  /// What every IOVA, length and offset into a page must be a multiple of: 1, the smallest page of a
  /// domain, or what an access needs. iova_alignment
  package internal(set) var alignment: UInt64 = 1
  /// Domains get pages of 4 KiB only, so that areas can be cut.
  package internal(set) var disablesLargePages = false

  package init(memory: PhysicalMemory, host: PinningHost = .shared) {
    self.memory = memory
    self.host = host
  }

  deinit { _ = unmapAll() }

  /// Mapped ranges.
  package var areaCount: Int { areas.count }

  // MARK: Areas that follow each other

  /// Calls `body` with every area of a range and the part of it that is in the range, as long as there is
  /// no gap. iommufd: iopt_for_each_contig_area()
  /// - Returns: whether the areas cover the range.
  func forEachContiguousArea<Failure: Error>(
    from first: UInt64, through last: UInt64,
    _ body: (Area, ClosedRange<UInt64>) throws(Failure) -> Void
  ) throws(Failure) -> Bool {
    var first = first
    while let span = areas.span(containing: first) {
      try body(span.value, first...min(last, span.last))
      if span.last >= last { return true }
      first = span.last + 1
    }
    return false
  }

  func forEachArea<Failure: Error>(_ body: (Area) throws(Failure) -> Void) throws(Failure) {
    try areas.forEach { span throws(Failure) in try body(span.value) }
  }
}
