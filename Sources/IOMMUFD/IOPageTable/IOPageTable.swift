// SPDX-License-Identifier: Apache-2.0

// The mappings of one IOAS (iommufd: struct io_pagetable).
//
// An *area* maps a range of IOVAs to client pages. Areas are disjoint and are removed whole. Two
// kinds of ranges limit where areas lie. *Reserved* ranges cannot be mapped; a device reserves its
// MSI window, a domain the IOVAs outside of its aperture. *Allowed* ranges limit where an IOVA is
// chosen automatically, and nothing can be reserved in them.
//
// A *domain* is one hardware page table. Every domain of the table contains every area: a call that
// cannot keep it so changes nothing. Without a domain no page is pinned, and an area only records
// what was mapped. An *access* reads or writes client pages without a domain; it pins the pages
// that it uses.
//
// `last` is inclusive, because the last IOVA of all is valid. Reserved and allowed ranges, the
// numbers of IntervalMap and the search for an IOVA are plain UInt64: there the kernel's own
// overflow rules count.
//
// The owner is an IOAS. Everything is guarded by the lock of its context. An unmap cannot fail
// half-way through an area, and the domains cannot refuse it.
//
// The lock is released while pages are faulted in, and now and then while many areas are handled.
// A new area is *pending* until all its pages are pinned: it reserves its IOVAs and cannot be
// unmapped (EBUSY), copied or accessed, as an area in the kernel whose `pages` is NULL. A domain
// that is being filled is in `filling`. The two rules that hold whenever the lock is free:
//   - every mapped area is in every domain of `domains`;
//   - an area that is in a domain or in a part of `filling` is a user of its pages.
// (The pages of a revoked dma-buf are in no domain.) Where the kernel makes a call wait for another
// one's pages, the result is as if the calls came one after the other.

internal import Host
package import IOMMU
package import SystemPackage
package import UAPI

package final class IOPageTable: @unchecked Sendable {
  /// The number of areas that one table can have. The kernel is limited by its memory only.
  static let areaLimit = 1 << 20

  let memory: PhysicalMemory
  let host: PinningHost
  /// The lock of the context. `nil` in tests of one thread.
  let lock: AssertableLock?

  /// By IOVA, pending ones too.
  let areas = IntervalMap<Area>()
  var ranges = IOVARanges()
  private(set) var domains: [any PagingDomain] = []
  /// The domains that calls are filling.
  private(set) var filling: [DomainFilling] = []
  private(set) var accesses: [any PageTableAccess] = []
  /// What each domain and each access requires.
  private var alignments = AlignmentCounts()
  /// Every IOVA and length of an area, and its offset in a page, must be a multiple of this: 1, the
  /// smallest page of a domain, or what an access needs (io_pagetable.iova_alignment).
  package private(set) var alignment: UInt64 = 1
  /// Whether domains get pages of 4 KiB only, so that areas can be split (disable_large_pages).
  package private(set) var disablesLargePages = false

  package init(
    memory: PhysicalMemory, host: PinningHost = .shared, lock: AssertableLock? = nil
  ) {
    self.memory = memory
    self.host = host
    self.lock = lock
  }

  deinit {
    forEachArea { area in unfill(area) }
  }

  package var areaCount: Int { areas.count }

  /// The number of areas that are handled before others may have the lock.
  static let areasPerTurn = 64

  // MARK: Areas

  /// Returns the area at `iova`, unless it is pending.
  func mappedArea(at iova: IOVA) -> Area? {
    guard let area = areas.interval(containing: iova.rawValue)?.value, area.state == .mapped else {
      return nil
    }
    return area
  }

  /// Calls `body` with every mapped area of a range and its part in the range, in ascending order,
  /// up to the first gap or pending area. `body` must not release the lock.
  /// iommufd: iopt_for_each_contig_area()
  /// - Returns: whether the areas cover the range.
  func forEachContiguousArea<Failure: Error>(
    in range: ClosedRange<IOVA>,
    _ body: (Area, ClosedRange<IOVA>) throws(Failure) -> Void
  ) throws(Failure) -> Bool {
    var first = range.lowerBound
    while let area = mappedArea(at: first) {
      try body(area, first...min(range.upperBound, area.lastIOVA))
      if area.lastIOVA >= range.upperBound { return true }
      first = area.lastIOVA + 1
    }
    return false
  }

  /// Calls `body` with every area that is not pending. `body` must not release the lock.
  func forEachArea<Failure: Error>(_ body: (Area) throws(Failure) -> Void) throws(Failure) {
    try areas.forEach { interval throws(Failure) in
      if interval.value.state == .mapped { try body(interval.value) }
    }
  }

  // MARK: Mapping

  /// Maps `slices`, `length` bytes in all, one area each, and fills all domains. Releases the lock
  /// while pages are faulted in; the areas are pending meanwhile.
  /// iommufd: iopt_map_pages(), iopt_map_common()
  /// - Parameters:
  ///   - iova: the first IOVA; `nil` chooses one.
  ///   - caller: the address space of the client that makes the call.
  /// - Returns: the first IOVA.
  func map(
    _ slices: [PageSlice], length: UInt64, at iova: IOVA?, permissions: Permissions,
    caller: AddressSpace?
  ) throws(Errno) -> IOVA {
    guard areas.count + slices.count <= Self.areaLimit else { throw .noMemory }
    guard length > 0, length & (alignment - 1) == 0, let first = slices.first else {
      throw .invalidArgument
    }
    let start: IOVA
    if let iova {
      try requireFree(iova, length: length)
      start = iova
    } else {
      start = try chooseIOVA(for: first.address, length: length)
    }
    let new = try makeAreas(slices, at: start, permissions)
    for area in new { insert(area) }
    do throws(Errno) {
      try fill(new, caller: caller)
    } catch {
      for area in new { remove(area) }
      throw error
    }
    for area in new {
      area.setMapped()
      for filling in filling { filling.areaIsMapped(area) }
    }
    return start
  }

  /// iommufd: iopt_check_iova()
  private func requireFree(_ iova: IOVA, length: UInt64) throws(Errno) {
    guard iova.rawValue & (alignment - 1) == 0 else { throw .invalidArgument }
    let range = try ClosedRange(iova, length: length)
    if ranges.isReserved(anyOf: range) { throw .invalidArgument }
    guard isUnmapped(range) else { throw .fileExists }
  }

  func isUnmapped(_ range: ClosedRange<IOVA>) -> Bool {
    let (first, last) = (range.lowerBound.rawValue, range.upperBound.rawValue)
    return areas.firstInterval(overlapping: first, through: last) == nil
  }

  /// Makes areas that follow each other from `iova` on; does not insert them.
  /// iommufd: iopt_insert_area()
  private func makeAreas(
    _ slices: [PageSlice], at iova: IOVA, _ permissions: Permissions
  ) throws(Errno) -> [Area] {
    var next: IOVA? = iova
    var areas: [Area] = []
    for slice in slices {
      try FaultInjection.step()
      if permissions.contains(.write), !slice.pages.isWritable { throw .notPermitted }
      guard slice.startByte & 4095 & (alignment - 1) == 0 else { throw .invalidArgument }
      guard let first = next else { throw .overflow }
      let (last, wraps) = first.rawValue.addingReportingOverflow(slice.length - 1)
      let (lastByte, wrapsByte) = slice.startByte.addingReportingOverflow(slice.length - 1)
      guard !wraps, !wrapsByte, lastByte >> 12 < slice.pages.pageCount else { throw .overflow }
      areas.append(
        Area(first...IOVA(last), of: slice.pages, at: slice.startByte, permissions: permissions))
      next = last == .max ? nil : IOVA(last + 1)
    }
    return areas
  }

  func insert(_ area: Area) {
    areas.insert(
      Interval(first: area.firstIOVA.rawValue, last: area.lastIOVA.rawValue, value: area))
  }

  func remove(_ area: Area) {
    areas.remove(containing: area.firstIOVA.rawValue)
    area.setRemoved()
  }

  // MARK: Domains

  /// Fills `domain` with every area and keeps it filled. Releases the lock while pages are faulted
  /// in; what others map and unmap meanwhile is in the domain or not as well.
  /// iommufd: iopt_table_add_domain()
  /// - Parameter client: the client that makes the call.
  /// - Throws: `.invalidArgument` when the domain has no pages of 4 KiB or less, `.addressInUse`
  ///   when an area is outside of its aperture or not aligned to its pages; what a pin throws.
  ///   Nothing has changed then.
  package func addDomain(
    _ domain: any PagingDomain, client: (any Client)? = nil
  ) throws(Errno) {
    try FaultInjection.step()
    let required = max(alignment, domain.smallestPage)
    guard required <= 4096 else { throw .invalidArgument }
    if required != alignment { try requireAreas(alignedTo: required) }
    do throws(Errno) {
      try reserveOutside(of: domain)
    } catch {
      removeReservations(of: ObjectIdentifier(domain))
      throw error
    }
    // From here on new areas must be aligned for the domain.
    alignments.add(domain.smallestPage)
    alignment = required
    let filling = DomainFilling(of: domain)
    self.filling.append(filling)
    do throws(Errno) {
      try fill(filling, client: client)
    } catch {
      self.filling.removeAll { $0 === filling }
      empty(filling)
      removeReservations(of: ObjectIdentifier(domain))
      alignments.remove(domain.smallestPage)
      alignment = requiredAlignment
      throw error
    }
    self.filling.removeAll { $0 === filling }
    domains.append(domain)
  }

  /// Empties `domain`, and unpins all pages when it was the last one.
  /// iommufd: iopt_table_remove_domain()
  package func removeDomain(_ domain: any PagingDomain) {
    guard let index = domains.firstIndex(where: { $0 === domain }) else { return }
    domains.remove(at: index)
    alignments.remove(domain.smallestPage)
    empty(domain)
    removeReservations(of: ObjectIdentifier(domain))
    alignment = requiredAlignment
  }

  // MARK: Accesses

  /// iommufd: iopt_add_access()
  /// - Throws: `.addressInUse` when an area has not the alignment that the access needs.
  func addAccess(_ access: any PageTableAccess) throws(Errno) {
    try FaultInjection.step()
    accesses.append(access)
    alignments.add(access.alignment)
    do throws(Errno) {
      try updateAlignment()
    } catch {
      accesses.removeLast()
      alignments.remove(access.alignment)
      throw error
    }
  }

  /// iommufd: iopt_remove_access()
  func removeAccess(_ access: any PageTableAccess) {
    guard let index = accesses.firstIndex(where: { $0 === access }) else { return }
    accesses.remove(at: index)
    alignments.remove(access.alignment)
    alignment = requiredAlignment
  }

  // MARK: Alignment

  /// iommufd: iopt_enable_large_pages()
  package func enableLargePages() {
    disablesLargePages = false
    // The alignment can only become smaller, so every area has it.
    alignment = requiredAlignment
  }

  /// iommufd: iopt_disable_large_pages()
  /// - Throws: `.invalidArgument` when a domain contains areas, whose pages may be large;
  ///   `.addressInUse` when an area does not consist of whole pages.
  package func disableLargePages() throws(Errno) {
    if disablesLargePages { return }
    guard domains.isEmpty && filling.isEmpty || areas.isEmpty else { throw .invalidArgument }
    disablesLargePages = true
    do throws(Errno) {
      try updateAlignment()
    } catch {
      disablesLargePages = false
      throw error
    }
  }

  /// iommufd: iopt_calculate_iova_alignment()
  private var requiredAlignment: UInt64 {
    let least: UInt64 = disablesLargePages ? 4096 : 1
    return max(least, alignments.largest)
  }

  private func updateAlignment() throws(Errno) {
    let required = requiredAlignment
    if required > alignment { try requireAreas(alignedTo: required) }
    alignment = required
  }

  /// iommufd: iopt_check_iova_alignment()
  private func requireAreas(alignedTo alignment: UInt64) throws(Errno) {
    try areas.forEach { interval throws(Errno) in
      guard interval.value.isAligned(to: alignment - 1) else { throw Errno.addressInUse }
    }
  }
}

extension PagingDomain {
  /// The size of the smallest page, in bytes.
  var smallestPage: UInt64 { 1 << UInt64(pageSizes.trailingZeroBitCount & 63) }
}
