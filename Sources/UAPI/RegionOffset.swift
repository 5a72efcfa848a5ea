// SPDX-License-Identifier: Apache-2.0

/// The offsets of a VFIO device's regions in its file: region `index` starts at `(index + 1) <<
/// 40`.
///
/// Programs read the offset of a region with VFIO_DEVICE_GET_REGION_INFO, so the server chooses it.
/// The kernel uses `index << 40`. With 1 added, every access to a device has an offset of 1 TiB or
/// more. A front end that sees only the registers of a call (the launcher's seccomp filter)
/// distinguishes it from reads and writes of other files by that. Both front ends use the same
/// offsets.
package enum RegionOffset {
  /// VFIO_PCI_OFFSET_SHIFT.
  package static let shift: UInt64 = 40

  /// The offset behind the last region of any device.
  package static let end = start(of: 255)

  package static func start(of index: UInt64) -> UInt64 { (index &+ 1) << shift }

  /// Returns the index of the region that contains `offset`, or `UInt64.max` for an offset below
  /// the first region.
  package static func index(of offset: UInt64) -> UInt64 { (offset >> shift) &- 1 }

  /// Returns the position of `offset` in its region.
  package static func position(in offset: UInt64) -> UInt64 { offset & (1 << shift - 1) }
}
