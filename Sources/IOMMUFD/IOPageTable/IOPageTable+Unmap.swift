// SPDX-License-Identifier: Apache-2.0

// Unmapping of areas, and the splitting of areas that the VFIO type1 interface allows.

package import IOMMU
package import SystemPackage

extension IOPageTable {
  /// Removes the areas in a range, from the lowest on. Areas that are removed before a failure stay
  /// removed. Lets others have the lock now and then; an area that they map behind the last one
  /// removed is not in the range any more. iommufd: iopt_unmap_iova()
  /// - Returns: 0 bytes and no failure when no area is in the range. The failure is
  ///   `.noSuchFileOrDirectory` (ENOENT) at the first area that is only partly in the range,
  ///   `.resourceBusy` at a pending area and at one with a locking pin, `.deadlock` when an access
  ///   does not unpin.
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
    var count = 0
    var first = range.lowerBound.rawValue
    let last = range.upperBound.rawValue
    while let interval = areas.firstInterval(overlapping: first, through: last) {
      let area = interval.value
      if area.state == .pending || area.locks > 0 {
        return UnmapResult(bytes: unmapped, failure: .resourceBusy)
      }
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
      remove(area)
      unfill(area)
      // Wraps only when areas cover every IOVA: 2^64 bytes do not fit into the sum.
      unmapped &+= interval.count
      if interval.last >= last { break }
      first = interval.last + 1
      count += 1
      if count % Self.areasPerTurn == 0 { lock?.yield() }
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
    if area.refusesPins || area.state == .pending { throw .resourceBusy }
    if area.pages.isBuffer { throw .notSupported }
    let middle = IOVA(last) + 1
    guard middle.rawValue & (alignment - 1) == 0,
      area.startByte(of: middle) & (alignment - 1) == 0
    else { throw .invalidArgument }
    guard areas.count < Self.areaLimit else { throw .noMemory }
    guard area.pins == 0, domains.isEmpty && filling.isEmpty || disablesLargePages else {
      throw .invalidArgument
    }
    remove(area)
    for part in [area.firstIOVA...IOVA(last), middle...area.lastIOVA] { insert(area.part(part)) }
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
