// SPDX-License-Identifier: Apache-2.0

// Configuration space of one function: 256 bytes of a conventional function, 4096 of a PCI Express
// one, and what a write does to each bit. A bit is read-only, writable, or cleared by writing 1
// (RW1C). Every other consequence of a write, such as a reset, is implemented in Function.swift.
//
// An access is 1, 2 or 4 bytes, naturally aligned and little-endian, as on the bus. A byte outside
// the space reads as ones and ignores writes, as a register does that no function claims. The owner
// is `Function`, which guards the space with its lock.

package struct ConfigSpace: Sendable {
  private var bytes: [UInt8]
  /// Bits that a write changes.
  private var writable: [UInt8]
  /// Bits that a write of 1 clears.
  private var clearedByOne: [UInt8]

  /// - Parameter size: Bytes of the space, 256 or 4096. Every byte is 0 and read-only.
  package init(size: Int) {
    bytes = Array(repeating: 0, count: size)
    writable = bytes
    clearedByOne = bytes
  }

  package var size: Int { bytes.count }

  /// Defines a register: its value after reset and which of its bits a write changes.
  /// - Parameter offset: The register's offset. The register lies inside the space.
  package mutating func define<Register: FixedWidthInteger>(
    _ offset: Int, _ value: Register, writable mask: Register = 0, clearedByOne ones: Register = 0
  ) {
    for index in 0..<(Register.bitWidth / 8) {
      let shift = index * 8
      bytes[offset + index] = UInt8(truncatingIfNeeded: value >> shift)
      writable[offset + index] = UInt8(truncatingIfNeeded: mask >> shift)
      clearedByOne[offset + index] = UInt8(truncatingIfNeeded: ones >> shift)
    }
  }

  package func read<Register: FixedWidthInteger & UnsignedInteger>(
    _ offset: Int, as type: Register.Type = Register.self
  ) -> Register {
    var value: Register = 0
    for index in 0..<(Register.bitWidth / 8) {
      let byte = contains(offset + index) ? bytes[offset + index] : 0xff
      value |= Register(truncatingIfNeeded: byte) << (index * 8)
    }
    return value
  }

  /// Writes a register as software does: read-only bits keep their value, RW1C bits are cleared by
  /// 1.
  package mutating func write<Register: FixedWidthInteger & UnsignedInteger>(
    _ offset: Int, _ value: Register
  ) {
    for index in 0..<(Register.bitWidth / 8) where contains(offset + index) {
      let position = offset + index
      let new = UInt8(truncatingIfNeeded: value >> (index * 8))
      bytes[position] = (bytes[position] & ~writable[position]) | (new & writable[position])
      bytes[position] &= ~(new & clearedByOne[position])
    }
  }

  /// Sets a register as the function's hardware does: every bit takes its new value.
  package mutating func set<Register: FixedWidthInteger & UnsignedInteger>(
    _ offset: Int, _ value: Register
  ) {
    for index in 0..<(Register.bitWidth / 8) where contains(offset + index) {
      bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (index * 8))
    }
  }

  /// Gives every writable bit its value in `saved`, as software does after a reset.
  package mutating func restoreWritableBits(from saved: ConfigSpace) {
    for position in bytes.indices where saved.contains(position) {
      bytes[position] =
        (bytes[position] & ~writable[position]) | (saved.bytes[position] & writable[position])
    }
  }

  private func contains(_ offset: Int) -> Bool { bytes.indices.contains(offset) }
}
