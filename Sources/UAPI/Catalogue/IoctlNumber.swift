// SPDX-License-Identifier: Apache-2.0

internal import CUAPI

/// An ioctl request number: direction, size of the argument, type and number (asm-generic/ioctl.h).
package struct IoctlNumber: RawRepresentable, Hashable, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }

  /// Bits 7:0, as _IOC_NR() returns them: the number among the requests of one type.
  package var nr: UInt8 { UInt8(truncatingIfNeeded: rawValue) }

  /// `_IO(';', number)`: no direction and no size. All numbers of iommufd and VFIO have this form,
  /// because their structs contain their own size.
  static func io(_ number: some BinaryInteger) -> IoctlNumber {
    IoctlNumber(rawValue: type << 8 | UInt32(number))
  }

  /// `_IO(VFIO_TYPE, VFIO_BASE + number)`.
  static func vfio(_ number: Int32) -> IoctlNumber { io(VFIO_BASE + number) }

  /// `_IOWR(';', number, Structure)`: the form of the simulator's own numbers.
  static func iowr<Structure>(
    _ number: some BinaryInteger, _: Structure.Type
  ) -> IoctlNumber {
    let bothDirections: UInt32 = 3 << 30
    let size = UInt32(MemoryLayout<Structure>.size) << 16
    return IoctlNumber(rawValue: bothDirections | size | io(number).rawValue)
  }

  /// `';'`, IOMMUFD_TYPE and VFIO_TYPE.
  private static let type: UInt32 = 0x3b
}
