// SPDX-License-Identifier: Apache-2.0

// The contents of domains.
//
// While the page table has a domain, every area is a user of its pages, which are therefore pinned.
// A domain is filled from the frames of the pages. Contiguous frames are mapped by one call, so
// that the domain can have large pages. The pages of a revoked dma-buf are in no domain.

internal import Host
internal import IOMMU
internal import SystemPackage
internal import UAPI

extension IOPageTable {
  // MARK: One domain

  /// Maps every area in a domain that is not in the list of domains yet. After an error the areas
  /// before it stay in the domain. iommufd: iopt_fill_domain()
  func fill(_ filling: DomainFilling, client: (any Client)?) throws(Errno) {
    var caller: AddressSpace?
    var count = 0
    while let area = filling.nextArea(in: areas) {
      if count == 0 { caller = try? client?.addressSpace() }
      count += 1
      if area.needsPin {
        try pin(area, for: [filling.domain], caller: caller)
        // The area may have been removed or split meanwhile.
        if area.state == .removed { continue }
      }
      if !area.pages.isRevoked { try install(area.frames, of: area, in: filling.domain) }
      filling.didFill(area)
      if count % Self.areasPerTurn == 0 { lock?.yield() }
    }
  }

  /// Unmaps the areas of a domain that could not be filled and is not in the list any more.
  func empty(_ filling: DomainFilling) {
    forEachArea { area in
      if area.isPinned, filling.contains(area) { unmap(area, in: filling.domain) }
    }
    unpinUnusedAreas()
  }

  /// Unmaps every area in `domain`, which is not in the list of domains any more.
  func empty(_ domain: any PagingDomain) {
    forEachArea { area in
      if area.isPinned { unmap(area, in: domain) }
    }
    unpinUnusedAreas()
  }

  /// Unpins the areas when no domain needs their pages.
  private func unpinUnusedAreas() {
    if domains.isEmpty, filling.isEmpty { forEachArea { area in area.unpin() } }
  }

  private func unmap(_ area: Area, in domain: any PagingDomain) {
    _ = domain.unmap(area.firstIOVA, length: area.length)
  }

  // MARK: One area

  /// Maps pending areas in every domain; all of them or none. iommufd: iopt_fill_domains_pages()
  func fill(_ new: [Area], caller: AddressSpace?) throws(Errno) {
    do throws(Errno) {
      // Domains may come and go while an area is being pinned.
      repeat {
        for area in new where !domains.isEmpty && area.needsPin {
          try pin(area, for: domains, caller: caller)
        }
      } while !domains.isEmpty && new.contains { $0.needsPin }
      for (index, area) in new.enumerated() {
        do throws(Errno) {
          try install(area)
        } catch {
          for filled in new[..<index] { uninstall(filled) }
          throw error
        }
      }
    } catch {
      for area in new { area.unpin() }
      throw error
    }
    if domains.isEmpty { for area in new { area.unpin() } }
  }

  /// Pins an area that is then mapped in `domains`. The kernel charges the pages after it has
  /// mapped them, so permissions that a domain does not accept are the first error
  /// (iommufd: iopt_area_fill_domains(), iopt_fill_domain()).
  private func pin(
    _ area: Area, for domains: [any PagingDomain], caller: AddressSpace?
  ) throws(Errno) {
    do throws(Errno) {
      try area.pin(caller: caller)
    } catch {
      guard error == .noMemory, !domains.allSatisfy({ $0.accepts(area.permissions) }),
        area.exceedsLimit
      else { throw error }
      throw .invalidArgument
    }
  }

  /// Maps a pinned area in all domains, or in none. iommufd: iopt_area_fill_domains()
  private func install(_ area: Area) throws(Errno) {
    guard area.isPinned, !domains.isEmpty else { return }
    let frames = area.frames
    for (index, domain) in domains.enumerated() {
      do throws(Errno) {
        try install(frames, of: area, in: domain)
      } catch {
        for filled in domains[..<index] { unmap(area, in: filled) }
        throw error
      }
    }
  }

  private func uninstall(_ area: Area) {
    for domain in domains { unmap(area, in: domain) }
  }

  /// Unmaps an area in every domain, then unpins its pages: no table points to a page that is
  /// unpinned. iommufd: iopt_area_unfill_domains()
  func unfill(_ area: Area) {
    guard area.isPinned else { return }
    if area.state != .pending {
      for domain in domains { unmap(area, in: domain) }
      for filling in filling where filling.contains(area) { unmap(area, in: filling.domain) }
    }
    area.unpin()
  }

  /// Unmaps the areas of `pages` in every domain, because the exporter takes the pages back. The
  /// areas stay. iommufd: iopt_revoke_notify()
  func unfillAreas(of pages: IOPTPages) {
    areas.forEach { interval in
      if interval.value.pages === pages { unfill(interval.value) }
    }
  }

  // MARK: Entries

  /// Maps an area in a domain, or nothing of it. iommufd: batch_to_domain()
  private func install(
    _ frames: [FrameRun], of area: Area, in domain: any PagingDomain
  ) throws(Errno) {
    guard domain.accepts(area.permissions) else { throw .invalidArgument }
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
