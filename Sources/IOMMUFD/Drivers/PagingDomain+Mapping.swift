// SPDX-License-Identifier: Apache-2.0

// Parts of map and unmap that all drivers share.

internal import IOMMU
internal import SystemPackage

extension PagingDomain {
  /// Checks the arguments of a mapping: whole 4 KiB pages, at least one permission, addresses
  /// inside the aperture.
  /// - Returns: The last IOVA.
  /// - Throws: `.invalidArgument`, `.outOfRange`.
  func requireMappable(
    _ iova: IOVA, to physical: PhysicalAddress, length: UInt64, _ permissions: Permissions
  ) throws(Errno) -> IOVA {
    let (last, overflow) = iova.rawValue.addingReportingOverflow(length &- 1)
    guard length > 0, (iova.rawValue | physical.rawValue | length) & 0xfff == 0,
      permissions.rawValue != 0
    else { throw .invalidArgument }
    guard !overflow, last <= aperture.upperBound else { throw .outOfRange }
    return IOVA(last)
  }

  /// Unmaps the part that a failed mapping has mapped, and throws the error. Does nothing without
  /// an error.
  func undoMapping(_ mapped: UInt64, at iova: IOVA, after error: Errno?) throws(Errno) {
    guard let error else { return }
    if mapped > 0 { unmap(iova, length: mapped) }
    throw error
  }
}

extension IOVA {
  /// Returns how many of the `length` bytes that start here end at or before `last`.
  func clipped(_ length: UInt64, through last: UInt64) -> UInt64 {
    guard length > 0, rawValue <= last else { return 0 }
    return min(length - 1, last - rawValue) + 1
  }

  /// Returns the last address of the `length` bytes that start here. `length` is not 0, and the
  /// bytes do not wrap.
  func last(of length: UInt64) -> IOVA { IOVA(rawValue &+ (length - 1)) }
}

extension PhysicalAddress {
  /// Returns the address `bytes` behind this address.
  func advanced(by bytes: UInt64) -> PhysicalAddress { PhysicalAddress(rawValue + bytes) }
}
