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

  /// Records in `bitmap` what was written to, from the start of the range up to the first hole. What
  /// cannot be recorded is not an error.
  /// iommufd: iommu_read_and_clear_dirty()
  /// - Throws: `.notSupported` for a domain that was not made for it.
  func readDirty(
    _ range: ClosedRange<UInt64>, of domain: any PagingDomain, clearing: Bool,
    into bitmap: inout DirtyBitmap
  ) throws(Errno) {
    guard let tracking = domain.dirtyTracking else { throw .notSupported }
    _ = forEachContiguousArea(from: range.lowerBound, through: range.upperBound) { _, part in
      try? tracking.readDirty(part, clearing: clearing) { iova, length in
        bitmap.set(iova.rawValue, length: length)
      }
    }
    bitmap.finish()
  }
}
