// SPDX-License-Identifier: Apache-2.0

/// A request for free numbers between the intervals of an ``IntervalMap``: `count` numbers, the
/// first of which is `offset` more than a multiple of `alignment`, a power of two, or as close to
/// that as the kernel's rule comes.
struct HoleRequest {
  let count: UInt64
  let alignment: UInt64
  let offset: UInt64

  /// Returns the first number of the request in the hole from `first` through `last`; `nil` when
  /// the request does not fit. The kernel's rule has two peculiarities: only the first aligned
  /// position of a hole is tried, and the position must be before the last number of the hole, even
  /// when one number is requested. iommufd: __alloc_iova_check_range()
  func position(from first: UInt64, through last: UInt64) -> UInt64? {
    let (padded, overflow) = first.addingReportingOverflow(alignment - 1)
    if overflow { return nil }
    let position = padded & ~(alignment - 1) | offset
    guard position < last, last - position >= count - 1 else { return nil }
    return position
  }

  /// The index of the alignment in ``HoleLengths``.
  var alignmentClass: Int { HoleLengths.alignmentClass(of: alignment) }
}

/// The length of the longest hole between the entries of a node, for each alignment of the hole's
/// start. A length is computed when it is first needed. A change of the node invalidates all of
/// them.
struct HoleLengths {
  private static let smallestShift = 12
  private static let largestShift = 21
  private static let classes = largestShift - smallestShift + 2

  private var known: UInt16 = 0
  private var lengths = InlineArray<11, UInt64>(repeating: 0)

  /// Class 0 is for holes without alignment. It is used for every alignment below a page too: with
  /// an offset these lead to different positions, and holes of less than a page are rare.
  static func alignmentClass(of alignment: UInt64) -> Int {
    min(max(0, alignment.trailingZeroBitCount - smallestShift + 1), classes - 1)
  }

  mutating func invalidate() { known = 0 }

  /// `nil` when the length is not known.
  subscript(alignmentClass: Int) -> UInt64? {
    get { known >> alignmentClass & 1 == 1 ? lengths[alignmentClass] : nil }
    set {
      guard let newValue else { return }
      known |= 1 << alignmentClass
      lengths[alignmentClass] = newValue
    }
  }

  /// Returns the length that is left of a hole when its start is aligned.
  static func length(from first: UInt64, to end: UInt64, _ alignmentClass: Int) -> UInt64 {
    let mask: UInt64 =
      alignmentClass == 0 ? 0 : (1 << UInt64(smallestShift + alignmentClass - 1)) - 1
    let (padded, overflow) = first.addingReportingOverflow(mask)
    let start = padded & ~mask
    return overflow || start >= end ? 0 : end - start
  }
}
