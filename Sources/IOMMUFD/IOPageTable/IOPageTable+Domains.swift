// SPDX-License-Identifier: Apache-2.0

// The contents of domains.
//
// While the page table has a domain, every area is a user of its pages, which are therefore pinned.
// A domain is filled from the frames of the pages. Contiguous frames are mapped by one call, so
// that the domain can have large pages. The pages of a revoked dma-buf are in no domain.

internal import Host
internal import IOMMU
internal import SystemPackage

extension IOPageTable {
  // MARK: One domain

  /// Maps every area in `domain`, which is not in the list of domains yet, or none.
  /// iommufd: iopt_fill_domain()
  func fill(_ domain: any PagingDomain, caller: AddressSpace?) throws(Errno) {
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
        _ = domain.unmap(area.firstIOVA, length: area.length)
        if domains.isEmpty { area.unpin() }
      }
      throw error
    }
  }

  /// Unmaps every area in `domain`, which is not in the list of domains any more.
  func empty(_ domain: any PagingDomain) {
    forEachArea { area in
      if area.pages.isRevoked { return }
      _ = domain.unmap(area.firstIOVA, length: area.length)
      if domains.isEmpty { area.unpin() }
    }
  }

  // MARK: One area

  /// Maps new areas in every domain; all of them or none. iommufd: iopt_fill_domains_pages()
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
        for filled in domains[..<index] {
          _ = filled.unmap(area.firstIOVA, length: area.length)
        }
        area.unpin()
        throw error
      }
    }
  }

  /// Unmaps an area in every domain, then unpins its pages: no table points to a page that is
  /// unpinned. iommufd: iopt_area_unfill_domains()
  func unfill(_ area: Area) {
    if domains.isEmpty || area.pages.isRevoked { return }
    for domain in domains { _ = domain.unmap(area.firstIOVA, length: area.length) }
    area.unpin()
  }

  /// Unmaps the areas of `pages` in every domain, because the exporter takes the pages back. The
  /// areas stay. iommufd: iopt_revoke_notify()
  func unfillAreas(of pages: IOPTPages) {
    forEachArea { area in
      if area.pages === pages { unfill(area) }
    }
  }

  // MARK: Entries

  /// Maps an area in a domain, or nothing of it. iommufd: batch_to_domain()
  private func install(
    _ frames: [FrameRun], of area: Area, in domain: any PagingDomain
  ) throws(Errno) {
    // No page-table format has an entry without any permission. generic_pt: map_range()
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
            area.firstIOVA + done,
            to: PhysicalAddress(run.physical.rawValue + skipped + mapped), length: granule,
            permissions: area.permissions)
          mapped += granule
          done += granule
        }
      }
    } catch {
      if done > 0 { _ = domain.unmap(area.firstIOVA, length: done) }
      throw error
    }
  }
}

extension Area {
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
