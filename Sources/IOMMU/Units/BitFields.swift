// Structures in memory as the specification draws them: numbered bits, of which a field has the highest
// and the lowest. A field never crosses a 64-bit word.

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

  /// The address in bits `high` down to `low`, its lower bits being zero and not stored: those that
  /// stand at the same place in an address and in a word of the structure.
  func address(_ high: Int, _ low: Int) -> UInt64 { self[high, low] << UInt64(low & 63) }

  mutating func setAddress(_ address: UInt64, _ high: Int, _ low: Int) {
    self[high, low] = address >> UInt64(low & 63)
  }

  private static func ones(_ count: Int) -> UInt64 {
    count >= 64 ? .max : 1 << UInt64(count) - 1
  }
}
