// Choosing an IOVA: the same one that the kernel chooses, because clients depend on it.
//
// The rule: the lowest place that fits, in the first allowed range that has one; with no allowed
// ranges, anywhere but the first and the last page. The place is aligned as the memory is, up to
// the size of a huge page, so that contiguous memory can have large entries.

internal import SystemPackage

extension IOPageTable {
  /// PMD_SIZE, the kernel having transparent huge pages.
  private static let largestAlignment: UInt64 = 2 << 20
  /// Address 0 is never chosen, nor is the end.
  private static let candidates: ClosedRange<UInt64> = 4096...UInt64.max - 4096

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

    if allowed.isEmpty {
      if let place = place(request, in: Self.candidates) { return place }
    } else {
      var index = 0
      while let range = nextAllowedSpan(from: &index) {
        guard range.overlaps(Self.candidates) else { continue }
        if let place = place(request, in: range.clamped(to: Self.candidates)) { return place }
      }
    }
    throw .noSpace
  }

  /// The range is first tried as if it were empty, and searched from where that would put the request.
  private func place(_ request: HoleRequest, in range: ClosedRange<UInt64>) -> UInt64? {
    guard let start = request.place(from: range.lowerBound, through: range.upperBound) else {
      return nil
    }
    for window in reservations.holes(in: start...range.upperBound) {
      let place = areas.firstPlace(
        for: request, from: window.lowerBound, through: window.upperBound)
      if let place { return place }
    }
    return nil
  }

  /// Allowed ranges that touch are one.
  private func nextAllowedSpan(from index: inout Int) -> ClosedRange<UInt64>? {
    guard index < allowed.count else { return nil }
    var span = allowed[index]
    index += 1
    while index < allowed.count, span.upperBound &+ 1 == allowed[index].lowerBound {
      span = span.lowerBound...allowed[index].upperBound
      index += 1
    }
    return span
  }
}
