// Which IOVAs devices have written to, out of the page table of one domain.

internal import IOMMU
package import SystemPackage

extension IOPageTable {
  /// Starts from a clean sheet: what was written before recording starts is forgotten.
  /// iommufd: iopt_set_dirty_tracking()
  /// - Throws: `.notSupported` for a domain that was not made for it.
  package func setDirtyTracking(
    _ isEnabled: Bool, of domain: any PagingDomain
  ) throws(Errno) {
    guard let tracking = domain.dirtyTracking else { throw .notSupported }
    if isEnabled {
      try forEachArea { area throws(Errno) in
        try tracking.readDirty(area.firstIOVA...area.lastIOVA, clearing: true) { _, _ in }
      }
    }
    try tracking.setDirtyTracking(isEnabled)
  }

  /// The range that a bitmap with a bit for `pageSize` bytes is asked for.
  /// iommufd: iommufd_check_iova_range()
  package func dirtyRange(
    _ iova: UInt64, length: UInt64, pageSize: UInt64
  ) throws(Errno) -> ClosedRange<UInt64> {
    guard length > 0 else { throw .invalidArgument }
    let (last, overflow) = iova.addingReportingOverflow(length - 1)
    if overflow { throw .overflow }
    let borders = iova | (last &+ 1)
    // Nothing demands a power of two.
    guard borders & (alignment - 1) == 0, pageSize > 0, borders & (pageSize - 1) == 0 else {
      throw .invalidArgument
    }
    return iova...last
  }

  /// What was written to from the start of the range on, up to the first hole.
  struct DirtyEntries {
    var entries: [(iova: IOVA, length: UInt64)] = []
    /// Where the rest begins; nil: there is none.
    var next: UInt64?
  }

  /// One piece of a range.
  /// iommufd: iommu_read_and_clear_dirty()
  /// - Throws: `.notSupported` for a domain that was not made for it; all else is dropped.
  func readDirty(
    _ range: ClosedRange<UInt64>, of domain: any PagingDomain, clearing: Bool
  ) throws(Errno) -> DirtyEntries {
    guard let tracking = domain.dirtyTracking else { throw .notSupported }
    let last = min(range.upperBound, range.lowerBound | (Self.dirtyPiece - 1))
    var result = DirtyEntries()
    let isCovered = forEachContiguousArea(from: range.lowerBound, through: last) { _, part in
      try? tracking.readDirty(part, clearing: clearing) { result.entries.append(($0, $1)) }
    }
    if isCovered, last < range.upperBound { result.next = last + 1 }
    return result
  }

  /// IOVAs looked at in one go. A page that spans two pieces is told of twice, which makes no difference.
  private static let dirtyPiece: UInt64 = 1 << 28
}
