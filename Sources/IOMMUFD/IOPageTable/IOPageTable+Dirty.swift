// SPDX-License-Identifier: Apache-2.0

// Dirty tracking of a domain: which IOVAs devices have written to.

package import IOMMU
package import SystemPackage

extension IOPageTable {
  /// Starts or stops dirty tracking. A start clears what was recorded before it.
  /// iommufd: iopt_set_dirty_tracking()
  /// - Throws: `.notSupported` for a domain without dirty tracking.
  package func setDirtyTracking(
    _ isEnabled: Bool, of domain: any PagingDomain
  ) throws(Errno) {
    guard let tracking = domain.dirtyTracking else { throw .notSupported }
    if isEnabled {
      try forEachArea { area throws(Errno) in
        try tracking.readDirty(area.range, clearing: true) { _, _ in }
      }
    }
    try tracking.setDirtyTracking(isEnabled)
  }

  /// Returns the range of a dirty bitmap that has one bit for `pageSize` bytes.
  /// iommufd: iommufd_check_iova_range()
  /// - Throws: `.invalidArgument` for length or page size 0 and when an end of the range is not
  ///   aligned to both; `.overflow`.
  package func dirtyRange(
    _ iova: IOVA, length: UInt64, pageSize: UInt64
  ) throws(Errno) -> ClosedRange<IOVA> {
    let range = try ClosedRange(iova, length: length)
    let borders = iova.rawValue | (range.upperBound.rawValue &+ 1)
    // The kernel does not check that `pageSize` is a power of two.
    guard borders & (alignment - 1) == 0, pageSize > 0, borders & (pageSize - 1) == 0 else {
      throw .invalidArgument
    }
    return range
  }

  /// The written page-table entries of a part of a range.
  struct DirtyEntries {
    var entries: [(iova: IOVA, length: UInt64)] = []
    /// The start of the rest. `nil` at the end of the range, and when the part has a gap between
    /// areas.
    var next: IOVA?
  }

  /// Reads the dirty entries at the start of a range. iommufd: iommu_read_and_clear_dirty()
  /// - Throws: `.notSupported` for a domain without dirty tracking. Other errors are dropped.
  func readDirty(
    _ range: ClosedRange<IOVA>, of domain: any PagingDomain, clearing: Bool
  ) throws(Errno) -> DirtyEntries {
    guard let tracking = domain.dirtyTracking else { throw .notSupported }
    let endOfPart = IOVA(range.lowerBound.rawValue | (Self.dirtyPartLength - 1))
    let part = range.lowerBound...min(range.upperBound, endOfPart)
    var result = DirtyEntries()
    let isCovered = forEachContiguousArea(in: part) { _, part in
      try? tracking.readDirty(part, clearing: clearing) {
        result.entries.append(($0, $1))
      }
    }
    if isCovered, part.upperBound < range.upperBound { result.next = part.upperBound + 1 }
    return result
  }

  /// The number of IOVAs that are read at a time, aligned to it. A page that spans two parts is
  /// reported twice, which sets the same bits again.
  private static let dirtyPartLength: UInt64 = 1 << 28
}
