// What an IOVA space consists of before anything is mapped: alignment, reserved and allowed ranges.

package import SystemPackage
internal import UAPI

/// IOVAs that cannot be mapped, and on whose behalf. The same IOVA may be reserved several times.
struct Reservations {
  private struct Reservation {
    let range: ClosedRange<UInt64>
    let owner: ObjectIdentifier?
  }

  private var all: [Reservation] = []
  /// The union, in ascending order; no two touch.
  private(set) var merged: [ClosedRange<UInt64>] = []

  mutating func add(_ range: ClosedRange<UInt64>, for owner: ObjectIdentifier?) {
    all.append(Reservation(range: range, owner: owner))
    merge()
  }

  mutating func remove(of owner: ObjectIdentifier?) {
    all.removeAll { $0.owner == owner }
    merge()
  }

  func overlaps(_ range: ClosedRange<UInt64>) -> Bool {
    merged.contains { $0.overlaps(range) }
  }

  /// The parts of `range` that are not reserved.
  func holes(in range: ClosedRange<UInt64>) -> [ClosedRange<UInt64>] {
    var holes: [ClosedRange<UInt64>] = []
    var next = range.lowerBound
    for reserved in merged where reserved.upperBound >= next {
      if reserved.lowerBound > range.upperBound { break }
      if reserved.lowerBound > next { holes.append(next...reserved.lowerBound - 1) }
      if reserved.upperBound >= range.upperBound { return holes }
      next = reserved.upperBound + 1
    }
    holes.append(next...range.upperBound)
    return holes
  }

  private mutating func merge() {
    merged = []
    for range in all.map(\.range).sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = merged.last,
        last.upperBound == .max || range.lowerBound <= last.upperBound + 1
      {
        merged[merged.count - 1] =
          last.lowerBound...max(last.upperBound, range.upperBound)
      } else {
        merged.append(range)
      }
    }
  }
}

extension IOPageTable {
  /// What is not reserved, for IOVA_RANGES.
  package var usableRanges: [ClosedRange<UInt64>] { reservations.holes(in: 0...UInt64.max) }

  /// Replaces the allowed ranges, which are disjoint and in ascending order.
  /// iommufd: iopt_set_allow_iova()
  /// - Throws: `.addressInUse` when one is reserved in part.
  package func setAllowed(_ ranges: [ClosedRange<UInt64>]) throws(Errno) {
    for range in ranges {
      try FaultInjection.step()
      guard !reservations.overlaps(range) else { throw .addressInUse }
    }
    allowed = ranges
  }

  // MARK: Reserved ranges

  /// iommufd: iopt_reserve_iova()
  /// - Parameter owner: nil for the selftest's own reservations.
  /// - Throws: `.addressInUse` when something of it is mapped or allowed.
  package func reserve(
    _ range: ClosedRange<UInt64>, for owner: ObjectIdentifier?
  ) throws(Errno) {
    try FaultInjection.step()
    let first = range.lowerBound
    guard areas.firstSpan(overlapping: first, through: range.upperBound) == nil,
      !isAllowed(anyOf: range)
    else { throw .addressInUse }
    reservations.add(range, for: owner)
  }

  package func removeReservations(of owner: ObjectIdentifier?) {
    reservations.remove(of: owner)
  }

  /// Reserves what the bus of `device` does with some IOVAs itself. All or nothing.
  /// iommufd: iopt_table_enforce_dev_resv_regions()
  /// - Returns: where software may put its MSI window, if the device asks for one.
  /// - Throws: `.addressInUse`; `.invalidArgument` for a driver's senseless combination of windows.
  @discardableResult
  func enforceReservedRegions(of device: PhysicalDevice) throws(Errno) -> UInt64? {
    var hardwareWindows = 0
    var softwareWindows: [UInt64] = []
    do throws(Errno) {
      for region in device.reservedRegions
      where region.kind != .directRelaxable {
        if region.kind == .msi { hardwareWindows += 1 }
        if region.kind == .softwareMSI { softwareWindows.append(region.range.lowerBound) }
        try reserve(region.range, for: ObjectIdentifier(device))
      }
      guard softwareWindows.count <= 1, softwareWindows.isEmpty || hardwareWindows == 0 else {
        throw .invalidArgument
      }
    } catch {
      removeReservedRegions(of: device)
      throw error
    }
    return softwareWindows.first
  }

  /// iommufd: iopt_remove_reserved_iova()
  func removeReservedRegions(of device: PhysicalDevice) {
    removeReservations(of: ObjectIdentifier(device))
  }

  private func isAllowed(anyOf range: ClosedRange<UInt64>) -> Bool {
    var (low, high) = (0, allowed.count)
    while low < high {
      let middle = (low + high) / 2
      if allowed[middle].upperBound < range.lowerBound { low = middle + 1 } else { high = middle }
    }
    return low < allowed.count && allowed[low].lowerBound <= range.upperBound
  }

  // MARK: Alignment

  /// iommufd: iopt_enable_large_pages()
  package func enableLargePages() {
    disablesLargePages = false
    // Becomes coarser for no area.
    alignment = requiredAlignment
  }

  /// iommufd: iopt_disable_large_pages()
  /// - Throws: `.invalidArgument` when a domain has mappings that may be large; `.addressInUse` when
  ///   a mapping is not made of whole pages.
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
  var requiredAlignment: UInt64 {
    let least: UInt64 = disablesLargePages ? 4096 : 1
    return max(
      least, domains.map(\.smallestPage).max() ?? 1, accesses.map(\.alignment).max() ?? 1)
  }

  func updateAlignment() throws(Errno) {
    let required = requiredAlignment
    if required > alignment { try requireAreas(alignedTo: required) }
    alignment = required
  }

  /// iommufd: iopt_check_iova_alignment()
  func requireAreas(alignedTo alignment: UInt64) throws(Errno) {
    try forEachArea { area throws(Errno) in
      guard area.isAligned(to: alignment - 1) else { throw .addressInUse }
    }
  }
}

extension PagingDomain {
  var smallestPage: UInt64 { 1 << UInt64(pageSizes.trailingZeroBitCount & 63) }
}
