// Removing areas, which goes from the lowest on and is not undone, and cutting them in two.

package import SystemPackage

/// How far an unmapping came.
package struct Unmapped {
  /// Bytes of the areas that are gone.
  package let bytes: UInt64
  /// Why the rest is not.
  package let failure: Errno?

  package func get() throws(Errno) -> UInt64 {
    if let failure { throw failure }
    return bytes
  }
}

extension IOPageTable {
  /// Removes the areas in a range.
  /// iommufd: iopt_unmap_iova()
  /// - Returns: 0 bytes and no failure when there is none. The failure is `.noSuchFileOrDirectory`
  ///   (ENOENT) at the first area that is not wholly in the range, `.resourceBusy` at one that is locked,
  ///   `.deadlock` at one that an access does not let go of.
  package func unmap(_ iova: UInt64, length: UInt64) -> Unmapped {
    guard length > 0 else { return Unmapped(bytes: 0, failure: .invalidArgument) }
    let (last, overflow) = iova.addingReportingOverflow(length - 1)
    if overflow { return Unmapped(bytes: 0, failure: .overflow) }
    return unmap(from: iova, through: last)
  }

  /// iommufd: iopt_unmap_all()
  package func unmapAll() -> Unmapped {
    unmap(from: 0, through: .max)
  }

  /// iommufd: iopt_unmap_iova_range()
  private func unmap(from first: UInt64, through last: UInt64) -> Unmapped {
    var unmapped: UInt64 = 0
    var first = first
    while let span = areas.firstSpan(overlapping: first, through: last) {
      let area = span.value
      if area.locks > 0 { return Unmapped(bytes: unmapped, failure: .resourceBusy) }
      guard span.first >= first, span.last <= last else {
        return Unmapped(bytes: unmapped, failure: .noSuchFileOrDirectory)
      }
      if area.pins > 0 {
        do throws(Errno) {
          try evictAccesses(of: area)
        } catch {
          return Unmapped(bytes: unmapped, failure: error)
        }
        continue
      }
      areas.remove(containing: span.first)
      unfill(area)
      // All of the IOVA space is one byte more than can be counted, but never mapped.
      unmapped &+= span.count
      if span.last >= last { break }
      first = span.last + 1
    }
    return Unmapped(bytes: unmapped, failure: nil)
  }

  // MARK: Cutting

  /// Makes areas begin and end where a range does, so that it can be unmapped. A range of which an end
  /// is the first or last IOVA of an area is not cut there, even when that splits nothing off.
  /// iommufd: iopt_cut_iova() as iommufd_vfio_unmap_dma() calls it
  /// - Throws: `.invalidArgument` where the alignment forbids it, where an access has pins, or when entries
  ///   of a domain may be large; `.resourceBusy` while it is being unmapped; `.notSupported` for a buffer.
  package func cut(around iova: UInt64, length: UInt64) throws(Errno) {
    try cut(after: iova &+ length &- 1)
    if iova != 0 { try cut(after: iova - 1) }
  }

  /// iommufd: iopt_area_split()
  private func cut(after iova: UInt64) throws(Errno) {
    guard let span = areas.span(containing: iova), iova != span.first, iova != span.last else {
      return
    }
    let area = span.value
    if area.refusesPins { throw .resourceBusy }
    if area.pages.isBuffer { throw .notSupported }
    let middle = iova + 1
    guard middle & (alignment - 1) == 0, area.startByte(of: middle) & (alignment - 1) == 0 else {
      throw .invalidArgument
    }
    guard areas.count < Self.areaLimit else { throw .noMemory }
    guard area.pins == 0, domains.isEmpty || disablesLargePages else { throw .invalidArgument }
    areas.remove(containing: iova)
    for part in [span.first...iova, middle...span.last] {
      let half = Area(
        iova: part, of: area.pages, at: area.startByte(of: part.lowerBound),
        permissions: area.permissions)
      areas.insert(Interval(first: part.lowerBound, last: part.upperBound, value: half))
    }
  }
}
