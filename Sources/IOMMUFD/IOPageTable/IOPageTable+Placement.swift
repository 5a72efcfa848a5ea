// Choosing an IOVA: the same one that the kernel chooses, because clients depend on it.
//
// The rule: the lowest place that fits, in the first allowed range that has one; with no allowed
// ranges, anywhere but the first and the last page. The place is aligned as the memory is, up to
// the size of a huge page, so that contiguous memory can have large entries.

internal import SystemPackage

extension IOPageTable {
  /// PMD_SIZE, the kernel having transparent huge pages.
  private static let largestAlignment: UInt64 = 2 << 20

  /// iommufd: iopt_alloc_iova()
  /// - Parameter source: where the memory is, in its process or file; its alignment is what counts.
  func chooseIOVA(for source: UInt64, length: UInt64) throws(Errno) -> UInt64 {
    guard length > 0, length < UInt64.max / 2 else { throw .overflow }
    let natural = UInt64(1) << UInt64(64 - (length - 1).leadingZeroBitCount)
    let ofSource: UInt64 = source == 0 ? .max : 1 << UInt64(source.trailingZeroBitCount)
    let request = HoleRequest(
      count: length, alignment: min(natural, ofSource, Self.largestAlignment),
      offset: source & 4095)
    guard request.alignment >= alignment else { throw .invalidArgument }

    let candidates: ClosedRange<UInt64> = 4096...UInt64.max - 4096
    for range in allowed.isEmpty ? [candidates] : allowedSpans(in: candidates) {
      // The range is first tried as if it were empty, and searched from where that would put it.
      guard let start = request.place(from: range.lowerBound, through: range.upperBound) else {
        continue
      }
      for window in reservations.holes(in: start...range.upperBound) {
        let place = areas.firstPlace(
          for: request, from: window.lowerBound, through: window.upperBound)
        if let place { return place }
      }
    }
    throw .noSpace
  }

  /// Allowed ranges that touch are one.
  private func allowedSpans(in candidates: ClosedRange<UInt64>) -> [ClosedRange<UInt64>] {
    var spans: [ClosedRange<UInt64>] = []
    for range in allowed where range.overlaps(candidates) {
      let range = range.clamped(to: candidates)
      if let last = spans.last, last.upperBound + 1 == range.lowerBound {
        spans[spans.count - 1] = last.lowerBound...range.upperBound
      } else {
        spans.append(range)
      }
    }
    return spans
  }
}
