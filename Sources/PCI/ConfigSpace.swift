// Configuration space: 256 bytes of a conventional function, 4096 of a PCI Express one, and for every bit
// what a write does to it. A bit is read-only, writable, or cleared by writing 1 (RW1C); nothing
// else is needed, because what a write *causes* is the function's business (Function.swift).
//
// An access is 1, 2 or 4 bytes, naturally aligned, little-endian, as on the bus. What lies outside
// the space reads as ones and ignores writes, which is what a requester sees of a register that
// nobody answers for.

package struct ConfigSpace: Sendable {
  private var bytes: [UInt8]
  private var writable: [UInt8]
  private var clearedByOne: [UInt8]

  /// - Parameter size: 256 or 4096.
  package init(size: Int) {
    bytes = Array(repeating: 0, count: size)
    writable = bytes
    clearedByOne = bytes
  }

  package var size: Int { bytes.count }

  /// Lays a register out: its value after reset and what can be written. `offset` is the model
  /// author's, not a client's, and lies inside the space.
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

  package mutating func write<Register: FixedWidthInteger & UnsignedInteger>(
    _ offset: Int, _ value: Register
  ) {
    for index in 0..<(Register.bitWidth / 8) where contains(offset + index) {
      let at = offset + index
      let new = UInt8(truncatingIfNeeded: value >> (index * 8))
      bytes[at] = (bytes[at] & ~writable[at]) | (new & writable[at])
      bytes[at] &= ~(new & clearedByOne[at])
    }
  }

  /// Changes a register from the device's side, where read-only means nothing.
  package mutating func set<Register: FixedWidthInteger & UnsignedInteger>(
    _ offset: Int, _ value: Register
  ) {
    for index in 0..<(Register.bitWidth / 8) where contains(offset + index) {
      bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (index * 8))
    }
  }

  /// Puts every writable bit back to what it is in `saved`: what software does after a reset.
  package mutating func restoreWritableBits(from saved: ConfigSpace) {
    for at in bytes.indices where saved.contains(at) {
      bytes[at] = (bytes[at] & ~writable[at]) | (saved.bytes[at] & writable[at])
    }
  }

  private func contains(_ offset: Int) -> Bool { bytes.indices.contains(offset) }
}
