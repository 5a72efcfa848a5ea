// SPDX-License-Identifier: Apache-2.0

internal import IOMMU

/// A domain that a call fills with the areas of a page table, in ascending order of IOVAs. The lock
/// is released now and then, so areas come and go meanwhile.
final class DomainFilling {
  let domain: any PagingDomain
  /// Areas from here on are not in the domain yet. `nil` behind the last IOVA.
  private(set) var next: IOVA? = IOVA(0)
  /// Areas below `next` that were mapped meanwhile and are not in the domain yet.
  private var late: [IOVA: Area] = [:]

  init(of domain: any PagingDomain) { self.domain = domain }

  /// Records an area that has just been mapped.
  func areaIsMapped(_ area: Area) {
    if isBehind(area) { late[area.firstIOVA] = area }
  }

  private func isBehind(_ area: Area) -> Bool { next.map { area.firstIOVA < $0 } ?? true }

  /// Whether the area, which is mapped, is in the domain.
  func contains(_ area: Area) -> Bool {
    isBehind(area) && late[area.firstIOVA] !== area
  }

  /// Returns an area that is not in the domain yet; `nil` when there is none. Areas that are mapped
  /// before it from now on are late.
  func nextArea(in areas: IntervalMap<Area>) -> Area? {
    while let (iova, area) = late.first {
      if area.state == .mapped { return area }
      late[iova] = nil
    }
    while let first = next {
      guard let interval = areas.firstInterval(overlapping: first.rawValue, through: .max) else {
        next = nil
        return nil
      }
      if interval.value.state == .mapped {
        next = interval.value.firstIOVA
        return interval.value
      }
      // The call that maps the area reports it.
      advance(behind: interval.value)
    }
    return nil
  }

  /// Records that `area` is in the domain.
  func didFill(_ area: Area) {
    if late[area.firstIOVA] === area { late[area.firstIOVA] = nil } else { advance(behind: area) }
  }

  private func advance(behind area: Area) {
    next = area.lastIOVA.rawValue == .max ? nil : area.lastIOVA + 1
  }
}
