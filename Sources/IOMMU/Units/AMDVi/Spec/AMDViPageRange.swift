// SPDX-License-Identifier: Apache-2.0

/// A naturally aligned range of addresses, as commands encode it with an address and S (§2.4.3,
/// table "Example Page Size Encodings"). With S set, the lowest zero bit of the address from bit 12
/// on encodes the size: the range is twice as large as the value of that bit.
package struct AMDViPageRange: Hashable, Sendable {
  /// The first address; a multiple of the size.
  package let start: UInt64
  /// log2 of the size, 12 to 64.
  package let shift: Int

  package static let everything = AMDViPageRange(start: 0, shift: 64)

  /// Makes the smallest range that contains all addresses from `first` to `last` and that commands
  /// can encode. amd: build_inv_address()
  package init(covering first: UInt64, through last: UInt64) {
    let shift = max(12, UInt64.bitWidth - (first ^ last).leadingZeroBitCount)
    guard shift <= 52 else {
      self = .everything
      return
    }
    self.init(start: (first >> UInt64(shift)) << UInt64(shift), shift: shift)
  }

  private init(start: UInt64, shift: Int) {
    self.start = start
    self.shift = shift
  }

  init(encoded: UInt64) {
    let address = encoded & ~0xfff
    let ones = (~(encoded >> 12)).trailingZeroBitCount
    shift = encoded & 1 == 0 ? 12 : min(64, 13 + ones)
    start = shift >= 64 ? 0 : (address >> UInt64(shift)) << UInt64(shift)
  }

  /// Address and S, as in the upper word of a command.
  var encoded: UInt64 {
    if shift >= 64 { return 0x7fff_ffff_ffff_f000 | 1 }
    guard shift > 12 else { return start }
    return start | (1 << UInt64(shift - 1) - 1) & ~0xfff | 1
  }

  /// Returns whether the range contains an address of the 2^`shift` bytes at `address`, a multiple
  /// of that size.
  func intersects(_ address: UInt64, shift: Int) -> Bool {
    let larger = max(self.shift, shift)
    // Two aligned ranges intersect if the larger contains the smaller.
    return larger >= 64 || (address ^ start) >> UInt64(larger) == 0
  }
}
