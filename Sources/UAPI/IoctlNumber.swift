/// An ioctl request number: direction, argument size, type and number (asm-generic/ioctl.h).
package struct IoctlNumber: RawRepresentable, Hashable, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }

  /// `_IO(type, number)`: no direction, no size. All of iommufd's and VFIO's numbers are of this
  /// form; their structs carry their own size.
  package static func io(type: UInt8, number: UInt8) -> IoctlNumber {
    IoctlNumber(rawValue: UInt32(type) << 8 | UInt32(number))
  }

  /// `_IOWR(type, number, …)`: read and written, with the size of its struct. Ours are of this form.
  package static func iowr(type: UInt8, number: UInt8, size: Int) -> IoctlNumber {
    let bothWays: UInt32 = 3 << 30
    let field = UInt32(truncatingIfNeeded: size & 0x3fff) << 16
    return IoctlNumber(rawValue: bothWays | field | io(type: type, number: number).rawValue)
  }

  /// ';', the type of iommufd's and VFIO's requests.
  package static let vfioType: UInt8 = 0x3b

  /// Bits 7:0, whatever the type.
  package var number: UInt8 { UInt8(truncatingIfNeeded: rawValue) }
}
