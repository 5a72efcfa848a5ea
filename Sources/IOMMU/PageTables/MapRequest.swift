// SPDX-License-Identifier: Apache-2.0

/// A range that is being mapped. The request moves forward as its parts are mapped.
struct MapRequest {
  /// The first address that is not mapped yet.
  private(set) var iova: IOVA
  /// The physical address that `iova` is mapped to.
  private(set) var physical: PhysicalAddress
  /// Bytes from `iova` on that are to be mapped.
  private(set) var remaining: UInt64
  let permissions: Permissions
  let snoops: Bool
  /// Empty tables that large pages replaced. The caller frees them after an invalidation.
  var retired = RetiredTables()

  /// - Parameter length: in bytes.
  init(
    _ iova: IOVA, to physical: PhysicalAddress, length: UInt64, permissions: Permissions,
    snoops: Bool
  ) {
    self.iova = iova
    self.physical = physical
    remaining = length
    self.permissions = permissions
    self.snoops = snoops
  }

  /// Returns log2 of the largest of `sizes` that the next page can have: both addresses are
  /// multiples of it, and it is not larger than what remains. generic_pt: pt_compute_best_pgsize()
  @inline(__always)
  func largestPage(of sizes: UInt64) -> Int? {
    let alignment = (iova.rawValue | physical.rawValue).trailingZeroBitCount
    let length = 63 &- remaining.leadingZeroBitCount
    // All sizes up to the smaller of the two bounds.
    let fitting = sizes & (UInt64(2) &<< UInt64(min(alignment, length)) &- 1)
    return fitting == 0 ? nil : 63 &- fitting.leadingZeroBitCount
  }

  /// Returns the number of bytes that the next pages of 2^`shift` bytes can map, before a larger
  /// page of `sizes` fits or less than a page remains.
  @inline(__always)
  func run(ofPages shift: Int, sizes: UInt64) -> UInt64 {
    let (iova, physical) = (iova.rawValue, physical.rawValue)
    let whole = remaining & ~(1 &<< UInt64(shift) &- 1)
    let larger = sizes & ~(2 &<< UInt64(shift) &- 1)
    guard larger != 0 else { return whole }
    // Both addresses reach a multiple of the larger size together, or never.
    let mask = larger & (0 &- larger) &- 1
    guard (iova ^ physical) & mask == 0, iova & mask != 0 else { return whole }
    return min(whole, (0 &- iova) & mask)
  }

  /// Moves the request forward by `size` bytes that were mapped.
  @inline(__always)
  mutating func advance(by size: UInt64) {
    iova = IOVA(iova.rawValue &+ size)
    physical = PhysicalAddress(physical.rawValue &+ size)
    remaining &-= size
  }
}
