// SPDX-License-Identifier: Apache-2.0

/// The alignments that the users of a page table require, and how many users require each of them.
/// An alignment is a power of two.
struct AlignmentCounts {
  /// By log2 of the alignment.
  private var counts = InlineArray<64, Int>(repeating: 0)
  /// A bit for every alignment with users: the bit that the alignment has.
  private var used: UInt64 = 0

  /// 1 when there are no users.
  var largest: UInt64 { 1 << UInt64(max(0, 63 - used.leadingZeroBitCount)) }

  mutating func add(_ alignment: UInt64) {
    counts[alignment.trailingZeroBitCount] += 1
    used |= alignment
  }

  mutating func remove(_ alignment: UInt64) {
    let shift = alignment.trailingZeroBitCount
    counts[shift] -= 1
    if counts[shift] == 0 { used &= ~alignment }
  }
}
