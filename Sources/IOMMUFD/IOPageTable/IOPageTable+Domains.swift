// The hardware page tables that have every area in them.
//
// An area is a user of its pages exactly while the page table has a domain. A domain is filled from
// the frames of the pages; where these are contiguous it is told so, and makes large entries.

internal import Host
internal import IOMMU
package import SystemPackage
package import UAPI

extension IOPageTable {
  /// Fills `domain` with every area, and with what is mapped from now on.
  /// iommufd: iopt_table_add_domain()
  /// - Parameter client: whose call this is, if one's.
  /// - Throws: `.invalidArgument` for a domain without 4 KiB pages, `.addressInUse` when an area is
  ///   outside of what the domain can map or not aligned to its pages, and what a pin says. Nothing
  ///   has changed then.
  package func addDomain(
    _ domain: any PagingDomain, client: (any Client)? = nil
  ) throws(Errno) {
    assert(!domains.contains { $0 === domain }, "a domain is added once")
    try FaultInjection.step()
    let required = max(alignment, domain.smallestPage)
    guard required <= 4096 else { throw .invalidArgument }
    if required != alignment { try requireAreas(alignedTo: required) }
    do throws(Errno) {
      try reserveOutside(domain)
      try fill(domain, caller: areas.isEmpty ? nil : try? client?.addressSpace())
    } catch {
      removeReservations(of: ObjectIdentifier(domain))
      throw error
    }
    alignment = required
    domains.append(domain)
  }

  /// Empties `domain` and keeps nothing for its sake. iommufd: iopt_table_remove_domain()
  package func removeDomain(_ domain: any PagingDomain) {
    guard let index = domains.firstIndex(where: { $0 === domain }) else { return }
    domains.remove(at: index)
    forEachArea { area in
      if area.pages.isRevoked { return }
      _ = domain.unmap(area.iova, length: area.length)
      if domains.isEmpty { area.unpin() }
    }
    removeReservations(of: ObjectIdentifier(domain))
    alignment = requiredAlignment
  }

  private func reserveOutside(_ domain: any PagingDomain) throws(Errno) {
    let owner = ObjectIdentifier(domain)
    let (first, last) = (domain.aperture.lowerBound, domain.aperture.upperBound)
    if first > 0 { try reserve(0...first - 1, for: owner) }
    if last < .max { try reserve(last + 1 ... .max, for: owner) }
  }

  /// iommufd: iopt_fill_domain(). What was taken back is left out, here and below.
  private func fill(_ domain: any PagingDomain, caller: AddressSpace?) throws(Errno) {
    var filled: [Area] = []
    do throws(Errno) {
      try forEachArea { area throws(Errno) in
        if area.pages.isRevoked { return }
        let isFirst = domains.isEmpty
        let frames = isFirst ? try area.pin(caller: caller) : area.frames
        do throws(Errno) {
          try install(frames, of: area, in: domain)
        } catch {
          if isFirst { area.unpin() }
          throw error
        }
        filled.append(area)
      }
    } catch {
      for area in filled {
        _ = domain.unmap(area.iova, length: area.length)
        if domains.isEmpty { area.unpin() }
      }
      throw error
    }
  }

  // MARK: Areas that come and go

  /// Puts new areas into every domain; all of them or none. iommufd: iopt_fill_domains_pages()
  func fill(_ areas: [Area], caller: AddressSpace?) throws(Errno) {
    if domains.isEmpty { return }
    for (index, area) in areas.enumerated() {
      do throws(Errno) {
        try fill(area, caller: caller)
      } catch {
        for filled in areas[..<index] { unfill(filled) }
        throw error
      }
    }
  }

  /// iommufd: iopt_area_fill_domains()
  private func fill(_ area: Area, caller: AddressSpace?) throws(Errno) {
    if area.pages.isRevoked { return }
    let frames = try area.pin(caller: caller)
    for (index, domain) in domains.enumerated() {
      do throws(Errno) {
        try install(frames, of: area, in: domain)
      } catch {
        for filled in domains[..<index] { _ = filled.unmap(area.iova, length: area.length) }
        area.unpin()
        throw error
      }
    }
  }

  /// Takes an area out of every domain. Pages are let go of only when no table leads to them.
  /// iommufd: iopt_area_unfill_domains()
  func unfill(_ area: Area) {
    if domains.isEmpty || area.pages.isRevoked { return }
    for domain in domains { _ = domain.unmap(area.iova, length: area.length) }
    area.unpin()
  }

  // MARK: Entries

  /// iommufd: batch_to_domain()
  private func install(
    _ frames: [FrameRun], of area: Area, in domain: any PagingDomain
  ) throws(Errno) {
    // No page table has an entry that permits nothing. generic_pt: map_range()
    guard !area.permissions.isEmpty else { throw .invalidArgument }
    var done: UInt64 = 0
    do throws(Errno) {
      for run in frames {
        // The first and the last page may be mapped in part.
        let skipped = done == 0 ? area.pageOffset : 0
        let length = min(UInt64(run.pages) << 12 - skipped, area.length - done)
        let granule = disablesLargePages ? 4096 : length
        var mapped: UInt64 = 0
        while mapped < length {
          try domain.map(
            IOVA(area.firstIOVA + done),
            to: PhysicalAddress(run.physical.rawValue + skipped + mapped), length: granule,
            permissions: area.permissions)
          mapped += granule
          done += granule
        }
      }
    } catch {
      if done > 0 { _ = domain.unmap(area.iova, length: done) }
      throw error
    }
  }
}

extension Area {
  fileprivate var iova: IOVA { IOVA(firstIOVA) }

  fileprivate func pin(caller: AddressSpace?) throws(Errno) -> [FrameRun] {
    try pages.pin(firstIndex, through: lastIndex, caller: caller)
  }

  fileprivate func unpin() {
    pages.unpin(firstIndex, through: lastIndex)
  }

  fileprivate var frames: [FrameRun] {
    pages.frames(firstIndex, through: lastIndex)
  }
}
