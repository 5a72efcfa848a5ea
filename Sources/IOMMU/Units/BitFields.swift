// SPDX-License-Identifier: Apache-2.0

// Access to the fields of structures in memory by bit numbers, as the specifications draw them: a
// field has a highest and a lowest bit. A field never crosses a boundary between 64-bit words.

extension InlineArray where Element == UInt64 {
  func equals(_ other: Self) -> Bool { indices.allSatisfy { self[$0] == other[$0] } }

  /// The field of bits `high` down to `low`.
  subscript(high: Int, low: Int) -> UInt64 {
    get { self[low >> 6] >> UInt64(low & 63) & Self.ones(high - low + 1) }
    set {
      let mask = Self.ones(high - low + 1)
      self[low >> 6] &= ~(mask << UInt64(low & 63))
      self[low >> 6] |= (newValue & mask) << UInt64(low & 63)
    }
  }

  /// One bit.
  subscript(bit bit: Int) -> Bool {
    get { self[bit, bit] != 0 }
    set { self[bit, bit] = newValue ? 1 : 0 }
  }

  /// Returns the address in the field of bits `high` down to `low`. A bit of the address has the
  /// same number in the address and in the 64-bit word; the bits below the field are zero and not
  /// stored.
  func address(_ high: Int, _ low: Int) -> UInt64 { self[high, low] << UInt64(low & 63) }

  mutating func setAddress(_ address: UInt64, _ high: Int, _ low: Int) {
    self[high, low] = address >> UInt64(low & 63)
  }

  private static func ones(_ count: Int) -> UInt64 {
    count >= 64 ? .max : 1 << UInt64(count) - 1
  }
}
