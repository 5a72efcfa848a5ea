// A range of IOVA that maps a slice of client pages (iommufd: struct iopt_area). IOVA and slice are in
// bytes; where the alignment of the page table allows it, both may begin and end inside a page.

internal import IOMMU

final class Area {
  let firstIOVA: UInt64
  let lastIOVA: UInt64
  let pages: IOPTPages
  /// The byte of the pages that the first IOVA means.
  let startByte: UInt64
  let permissions: Permissions
  /// Pins of accesses that touch the area. num_accesses
  var pins = 0
  /// Those of them that forbid unmapping. num_locks
  var locks = 0
  /// It is about to be unmapped. prevent_access
  var refusesPins = false

  init(
    iova: ClosedRange<UInt64>, of pages: IOPTPages, at startByte: UInt64,
    permissions: Permissions
  ) {
    firstIOVA = iova.lowerBound
    lastIOVA = iova.upperBound
    self.pages = pages
    self.startByte = startByte
    self.permissions = permissions
  }

  /// No area covers all IOVAs: it could not be asked for.
  var length: UInt64 { lastIOVA - firstIOVA + 1 }
  /// How far into its first page the area begins.
  var pageOffset: UInt64 { startByte & 4095 }
  var firstIndex: UInt64 { startByte >> 12 }
  var lastIndex: UInt64 { (startByte + (lastIOVA - firstIOVA)) >> 12 }

  /// The byte of the pages that `iova`, which is in the area, means.
  func startByte(of iova: UInt64) -> UInt64 { startByte + (iova - firstIOVA) }

  func isAligned(to mask: UInt64) -> Bool {
    (firstIOVA | length | pageOffset) & mask == 0
  }
}

/// A piece of client pages that is on its way from one page table to another, or from a client into
/// its first (iommufd: struct iopt_pages_list).
package struct PageSlice {
  let pages: IOPTPages
  let startByte: UInt64
  let length: UInt64
}
