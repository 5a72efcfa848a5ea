// SPDX-License-Identifier: Apache-2.0

/// The reserved ranges of a page table (io_pagetable.reserved_itree). A range may be reserved by
/// several owners, as often as each of them likes; ranges may overlap. A reservation of a range
/// that is reserved already takes constant time, because every domain of a table reserves the same
/// ranges.
struct ReservedRanges {
  private typealias Counts = [ClosedRange<UInt64>: Int]

  /// The number of reservations of each owner. `nil` is the selftest interface.
  private var byOwner: [ObjectIdentifier?: Counts] = [:]
  /// The number of reservations of all owners.
  private var counts: Counts = [:]
  /// The union of all reservations in ascending order; no two ranges touch.
  private(set) var union: [ClosedRange<UInt64>] = []

  mutating func reserve(_ range: ClosedRange<UInt64>, for owner: ObjectIdentifier?) {
    byOwner[owner, default: [:]][range, default: 0] += 1
    counts[range, default: 0] += 1
    if counts[range] == 1 { join(range) }
  }

  mutating func removeReservations(of owner: ObjectIdentifier?) {
    guard let removed = byOwner.removeValue(forKey: owner) else { return }
    var isLast = false
    for (range, count) in removed {
      let left = counts[range, default: 0] - count
      counts[range] = left > 0 ? left : nil
      if left <= 0 { isLast = true }
    }
    guard isLast else { return }
    union = []
    for range in counts.keys.sorted(by: { $0.lowerBound < $1.lowerBound }) { join(range) }
  }

  /// Returns the index of the first range of the union that ends at or after `number`.
  private func index(endingAtOrAfter number: UInt64) -> Int {
    var (low, high) = (0, union.count)
    while low < high {
      let middle = (low + high) / 2
      if union[middle].upperBound < number { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Adds `range` to the union, with the ranges that it overlaps or touches.
  private mutating func join(_ range: ClosedRange<UInt64>) {
    let first = index(endingAtOrAfter: range.lowerBound == 0 ? 0 : range.lowerBound - 1)
    var end = first
    var (lower, upper) = (range.lowerBound, range.upperBound)
    while end < union.count,
      union[end].lowerBound <= range.upperBound || union[end].lowerBound - 1 == range.upperBound
    {
      lower = min(lower, union[end].lowerBound)
      upper = max(upper, union[end].upperBound)
      end += 1
    }
    union.replaceSubrange(first..<end, with: CollectionOfOne(lower...upper))
  }

  func isReserved(anyOf range: ClosedRange<UInt64>) -> Bool {
    let index = index(endingAtOrAfter: range.lowerBound)
    return index < union.count && union[index].lowerBound <= range.upperBound
  }

  /// Returns the parts of `range` that are not reserved, in ascending order.
  func unreserved(in range: ClosedRange<UInt64>) -> [ClosedRange<UInt64>] {
    var holes: [ClosedRange<UInt64>] = []
    var next = range.lowerBound
    for reserved in union[index(endingAtOrAfter: next)...] {
      if reserved.lowerBound > range.upperBound { break }
      if reserved.lowerBound > next { holes.append(next...reserved.lowerBound - 1) }
      if reserved.upperBound >= range.upperBound { return holes }
      next = reserved.upperBound + 1
    }
    holes.append(next...range.upperBound)
    return holes
  }
}
