// What mapping and unmapping have in common for all drivers.

internal import IOMMU
internal import SystemPackage

extension PagingDomain {
  /// What the units' drivers ask of a mapping: whole pages of 4 KiB, a right, and addresses that the
  /// domain has.
  /// - Returns: the last address.
  func requireMappable(
    _ iova: IOVA, to physical: PhysicalAddress, length: UInt64, _ permissions: Permissions
  ) throws(Errno) -> UInt64 {
    let (last, overflow) = iova.rawValue.addingReportingOverflow(length &- 1)
    guard length > 0, (iova.rawValue | physical.rawValue | length) & 0xfff == 0,
      permissions.rawValue != 0
    else { throw .invalidArgument }
    guard !overflow, last <= aperture.upperBound else { throw .outOfRange }
    return last
  }

  /// Of a mapping that failed on its way nothing stays.
  func undo(_ mapped: UInt64, at iova: IOVA, after error: Errno?) throws(Errno) {
    guard let error else { return }
    if mapped > 0 { unmap(iova, length: mapped) }
    throw error
  }
}

extension UInt64 {
  /// How many of `length` bytes from here on are not behind `last`.
  func clipped(_ length: UInt64, through last: UInt64) -> UInt64 {
    guard length > 0, self <= last else { return 0 }
    return Swift.min(length - 1, last - self) + 1
  }
}
