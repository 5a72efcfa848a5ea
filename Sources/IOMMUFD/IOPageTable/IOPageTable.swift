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

internal import Host
package import IOMMU
package import SystemPackage
package import UAPI

package final class IOPageTable: @unchecked Sendable {
  /// The number of areas that one table can have. The kernel is limited by its memory only.
  static let areaLimit = 1 << 20

  let memory: PhysicalMemory
  let host: PinningHost

  /// By IOVA.
  let areas = IntervalMap<Area>()
  var ranges = IOVARanges()
  private(set) var domains: [any PagingDomain] = []
  private(set) var accesses: [any PageTableAccess] = []
  /// What each domain and each access requires.
  private var alignments = AlignmentCounts()
  /// Every IOVA and length of an area, and its offset in a page, must be a multiple of this: 1, the
  /// smallest page of a domain, or what an access needs (io_pagetable.iova_alignment).
  package private(set) var alignment: UInt64 = 1
  /// Whether domains get pages of 4 KiB only, so that areas can be split (disable_large_pages).
  package private(set) var disablesLargePages = false

  package init(memory: PhysicalMemory, host: PinningHost = .shared) {
    self.memory = memory
    self.host = host
  }

  deinit { _ = unmapAll() }

  package var areaCount: Int { areas.count }

  // MARK: Areas

  /// Calls `body` with every area of a range and its part in the range, in ascending order, up to
  /// the first gap. iommufd: iopt_for_each_contig_area()
  /// - Returns: whether the areas cover the range.
  func forEachContiguousArea<Failure: Error>(
    in range: ClosedRange<IOVA>,
    _ body: (Area, ClosedRange<IOVA>) throws(Failure) -> Void
  ) throws(Failure) -> Bool {
    var first = range.lowerBound
    while let area = areas.interval(containing: first.rawValue)?.value {
      try body(area, first...min(range.upperBound, area.lastIOVA))
      if area.lastIOVA >= range.upperBound { return true }
      first = area.lastIOVA + 1
    }
    return false
  }

  func forEachArea<Failure: Error>(_ body: (Area) throws(Failure) -> Void) throws(Failure) {
    try areas.forEach { interval throws(Failure) in try body(interval.value) }
  }

  // MARK: Mapping

  /// Maps `slices`, `length` bytes in all, one area each, and fills all domains.
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
    try fill(new, caller: caller)
    for area in new { insert(area) }
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

  // MARK: Unmapping

  /// Removes the areas in a range, from the lowest on. Areas that are removed before a failure stay
  /// removed. iommufd: iopt_unmap_iova()
  /// - Returns: 0 bytes and no failure when no area is in the range. The failure is
  ///   `.noSuchFileOrDirectory` (ENOENT) at the first area that is only partly in the range,
  ///   `.resourceBusy` at an area with a locking pin, `.deadlock` when an access does not unpin.
  package func unmap(_ iova: IOVA, length: UInt64) -> UnmapResult {
    do throws(Errno) {
      return unmap(try ClosedRange(iova, length: length))
    } catch {
      return UnmapResult(bytes: 0, failure: error)
    }
  }

  /// iommufd: iopt_unmap_all()
  package func unmapAll() -> UnmapResult { unmap(.all) }

  /// iommufd: iopt_unmap_iova_range()
  private func unmap(_ range: ClosedRange<IOVA>) -> UnmapResult {
    var unmapped: UInt64 = 0
    var first = range.lowerBound.rawValue
    let last = range.upperBound.rawValue
    while let interval = areas.firstInterval(overlapping: first, through: last) {
      let area = interval.value
      if area.locks > 0 { return UnmapResult(bytes: unmapped, failure: .resourceBusy) }
      guard interval.first >= first, interval.last <= last else {
        return UnmapResult(bytes: unmapped, failure: .noSuchFileOrDirectory)
      }
      if area.pins > 0 {
        do throws(Errno) {
          try evictAccesses(of: area)
        } catch {
          return UnmapResult(bytes: unmapped, failure: error)
        }
        continue
      }
      areas.remove(containing: interval.first)
      unfill(area)
      // Wraps only when areas cover every IOVA: 2^64 bytes do not fit into the sum.
      unmapped &+= interval.count
      if interval.last >= last { break }
      first = interval.last + 1
    }
    return UnmapResult(bytes: unmapped, failure: nil)
  }

  /// Splits areas so that they begin and end where a range does, and the range can be unmapped. An
  /// end of the range that is the first or the last IOVA of an area splits nothing.
  /// iommufd: iopt_cut_iova(), as iommufd_vfio_unmap_dma() calls it
  /// - Throws: `.invalidArgument` when a part would not be aligned, an access has pins, or a domain
  ///   may have large pages; `.resourceBusy` while the area is being unmapped; `.notSupported` for
  ///   a dma-buf; `.noMemory` when there are too many areas.
  package func cut(around iova: IOVA, length: UInt64) throws(Errno) {
    try split(after: iova.rawValue &+ length &- 1)
    if iova.rawValue != 0 { try split(after: iova.rawValue - 1) }
  }

  /// iommufd: iopt_area_split()
  private func split(after last: UInt64) throws(Errno) {
    guard let area = areas.interval(containing: last)?.value,
      last != area.firstIOVA.rawValue, last != area.lastIOVA.rawValue
    else { return }
    if area.refusesPins { throw .resourceBusy }
    if area.pages.isBuffer { throw .notSupported }
    let middle = IOVA(last) + 1
    guard middle.rawValue & (alignment - 1) == 0,
      area.startByte(of: middle) & (alignment - 1) == 0
    else { throw .invalidArgument }
    guard areas.count < Self.areaLimit else { throw .noMemory }
    guard area.pins == 0, domains.isEmpty || disablesLargePages else { throw .invalidArgument }
    areas.remove(containing: last)
    for part in [area.firstIOVA...IOVA(last), middle...area.lastIOVA] {
      insert(
        Area(
          part, of: area.pages, at: area.startByte(of: part.lowerBound),
          permissions: area.permissions))
    }
  }

  // MARK: Domains

  /// Fills `domain` with every area and keeps it filled. iommufd: iopt_table_add_domain()
  /// - Parameter client: the client that makes the call.
  /// - Throws: `.invalidArgument` when the domain has no pages of 4 KiB or less, `.addressInUse`
  ///   when an area is outside of its aperture or not aligned to its pages; what a pin throws.
  ///   Nothing has changed then.
  package func addDomain(
    _ domain: any PagingDomain, client: (any Client)? = nil
  ) throws(Errno) {
    assert(!domains.contains { $0 === domain }, "a domain is added once")
    try FaultInjection.step()
    let required = max(alignment, domain.smallestPage)
    guard required <= 4096 else { throw .invalidArgument }
    if required != alignment { try requireAreas(alignedTo: required) }
    do throws(Errno) {
      try reserveOutside(of: domain)
      try fill(domain, caller: areas.isEmpty ? nil : try? client?.addressSpace())
    } catch {
      removeReservations(of: ObjectIdentifier(domain))
      throw error
    }
    alignment = required
    domains.append(domain)
    alignments.add(domain.smallestPage)
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
    guard domains.isEmpty || areas.isEmpty else { throw .invalidArgument }
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
    try forEachArea { area throws(Errno) in
      guard area.isAligned(to: alignment - 1) else { throw .addressInUse }
    }
  }
}

/// The outcome of an unmap.
package struct UnmapResult {
  /// The bytes of the areas that were removed.
  package let bytes: UInt64
  /// The reason why the next area was not removed. `nil` when the whole range was unmapped.
  package let failure: Errno?

  package func get() throws(Errno) -> UInt64 {
    if let failure { throw failure }
    return bytes
  }
}

extension PagingDomain {
  /// The size of the smallest page, in bytes.
  var smallestPage: UInt64 { 1 << UInt64(pageSizes.trailingZeroBitCount & 63) }
}
