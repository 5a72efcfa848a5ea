// SPDX-License-Identifier: Apache-2.0

// The reserved and the allowed ranges of an IOPageTable (io_pagetable.reserved_itree,
// .allowed_itree), and the choice of an IOVA for a mapping without IOMMU_IOAS_MAP_FIXED_IOVA.
//
// The IOVA is the one that the kernel chooses, because clients depend on it: the lowest position in
// the first allowed range that has one. Without allowed ranges every IOVA but those of the first
// and the last page is a candidate. The position is aligned as the memory is, up to the size of a
// huge page, so that contiguous memory can have large pages in a domain.

internal import IOMMU
package import SystemPackage
internal import UAPI

struct IOVARanges {
  var reserved = ReservedRanges()
  /// Disjoint, in ascending order.
  var allowed: [ClosedRange<UInt64>] = []

  func isReserved(anyOf range: ClosedRange<IOVA>) -> Bool {
    reserved.isReserved(anyOf: range.lowerBound.rawValue...range.upperBound.rawValue)
  }

  // MARK: Allowed ranges

  func isAllowed(anyOf range: ClosedRange<UInt64>) -> Bool {
    var (low, high) = (0, allowed.count)
    while low < high {
      let middle = (low + high) / 2
      if allowed[middle].upperBound < range.lowerBound { low = middle + 1 } else { high = middle }
    }
    return low < allowed.count && allowed[low].lowerBound <= range.upperBound
  }

  /// Returns the allowed range at `index`, joined with those that follow it without a gap.
  /// - Parameter index: on return the index behind the last one joined.
  fileprivate func joinedAllowedRange(at index: inout Int) -> ClosedRange<UInt64>? {
    guard index < allowed.count else { return nil }
    var range = allowed[index]
    index += 1
    while index < allowed.count, range.upperBound &+ 1 == allowed[index].lowerBound {
      range = range.lowerBound...allowed[index].upperBound
      index += 1
    }
    return range
  }
}

extension IOPageTable {
  /// The ranges that are not reserved, for IOMMU_IOAS_IOVA_RANGES.
  package var usableRanges: [ClosedRange<UInt64>] { ranges.reserved.unreserved(in: 0...UInt64.max) }

  /// Replaces the allowed ranges. iommufd: iopt_set_allow_iova()
  /// - Parameter new: disjoint, in ascending order.
  /// - Throws: `.addressInUse` when one overlaps a reserved range.
  package func setAllowed(_ new: [ClosedRange<UInt64>]) throws(Errno) {
    for range in new {
      try FaultInjection.step()
      guard !ranges.reserved.isReserved(anyOf: range) else { throw .addressInUse }
    }
    ranges.allowed = new
  }

  // MARK: Reserving

  /// iommufd: iopt_reserve_iova()
  /// - Parameter owner: `nil` for reservations of the selftest interface.
  /// - Throws: `.addressInUse` when a part of the range is mapped or allowed.
  package func reserve(
    _ range: ClosedRange<UInt64>, for owner: ObjectIdentifier?
  ) throws(Errno) {
    try FaultInjection.step()
    guard isUnmapped(IOVA(range.lowerBound)...IOVA(range.upperBound)),
      !ranges.isAllowed(anyOf: range)
    else { throw .addressInUse }
    ranges.reserved.reserve(range, for: owner)
  }

  package func removeReservations(of owner: ObjectIdentifier?) {
    ranges.reserved.removeReservations(of: owner)
  }

  /// Reserves what is outside of the aperture of `domain`.
  func reserveOutside(of domain: any PagingDomain) throws(Errno) {
    let owner = ObjectIdentifier(domain)
    let (first, last) = (domain.aperture.lowerBound, domain.aperture.upperBound)
    if first > 0 { try reserve(0...first - 1, for: owner) }
    if last < .max { try reserve(last + 1 ... .max, for: owner) }
  }

  /// Reserves all reserved regions of `device`, or none.
  /// iommufd: iopt_table_enforce_dev_resv_regions()
  /// - Returns: the start of the window for MSIs that software chooses; `nil` without such a
  ///   region.
  /// - Throws: `.addressInUse`; `.invalidArgument` when the driver reports several such windows, or
  ///   one beside a hardware MSI window.
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

  // MARK: Choosing an IOVA

  /// PMD_SIZE: the kernel has transparent huge pages.
  private static let largestAlignment: UInt64 = 2 << 20
  private static let candidates: ClosedRange<UInt64> = 4096...UInt64.max - 4096

  /// iommufd: iopt_alloc_iova()
  /// - Parameter source: the address of the memory in its process, or its offset in a file. Only
  ///   its alignment is used.
  /// - Throws: `.overflow` for a length of half the IOVAs or more, `.invalidArgument` when the
  ///   source is aligned less than the page table requires, `.noSpace`.
  func chooseIOVA(for source: UInt64, length: UInt64) throws(Errno) -> IOVA {
    guard length > 0, length < UInt64.max / 2 else { throw .overflow }
    let ofLength = UInt64(1) << UInt64(64 - (length - 1).leadingZeroBitCount)
    let ofSource: UInt64 = source == 0 ? .max : 1 << UInt64(source.trailingZeroBitCount)
    let request = HoleRequest(
      count: length, alignment: min(ofLength, ofSource, Self.largestAlignment),
      offset: source & 4095)
    guard request.alignment >= alignment else { throw .invalidArgument }

    if ranges.allowed.isEmpty {
      if let iova = position(of: request, in: Self.candidates) { return iova }
    } else {
      var index = 0
      while let range = ranges.joinedAllowedRange(at: &index) {
        guard range.overlaps(Self.candidates) else { continue }
        if let iova = position(of: request, in: range.clamped(to: Self.candidates)) {
          return iova
        }
      }
    }
    throw .noSpace
  }

  /// The search starts where the request would be if the whole range were free.
  private func position(of request: HoleRequest, in range: ClosedRange<UInt64>) -> IOVA? {
    guard let start = request.position(from: range.lowerBound, through: range.upperBound) else {
      return nil
    }
    for window in ranges.reserved.unreserved(in: start...range.upperBound) {
      let position = areas.firstPosition(
        for: request, from: window.lowerBound, through: window.upperBound)
      if let position { return IOVA(position) }
    }
    return nil
  }
}
