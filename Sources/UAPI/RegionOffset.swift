/// Where the regions of a VFIO device lie in its file: region `index` starts at `(index + 1) << 40`.
///
/// Programs take the offset from VFIO_DEVICE_GET_REGION_INFO; its value is the server's choice. The
/// kernel's is `index << 40`. Starting at 1 instead gives every device access an offset of 1 TiB or
/// more, by which a front end that can see only registers (the launcher's filter) tells it from the
/// reads and writes of all other files. Both front ends use the same offsets.
package enum RegionOffset {
  /// VFIO_PCI_OFFSET_SHIFT.
  package static let shift: UInt64 = 40

  /// No region of any device's file lies behind.
  package static let end = start(of: 255)

  package static func start(of index: UInt64) -> UInt64 { (index &+ 1) << shift }

  /// The index of the region that `offset` lies in; `UInt64.max` below the first.
  package static func index(of offset: UInt64) -> UInt64 { (offset >> shift) &- 1 }
  package static func position(in offset: UInt64) -> UInt64 { offset & (1 << shift - 1) }
}
