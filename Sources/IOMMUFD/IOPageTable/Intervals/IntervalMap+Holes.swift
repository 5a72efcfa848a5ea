// Finding the first hole that a request fits in.

/// A free place that is looked for: `count` numbers, the first of which is `offset` more than a
/// multiple of `alignment`, a power of two, or as near to that as the kernel's rule comes.
struct HoleRequest {
  let count: UInt64
  let alignment: UInt64
  let offset: UInt64

  /// Where in the hole the request would go; nil when it does not fit. The rule has two peculiarities
  /// to keep: only the hole's first aligned place is tried, and the place must lie before the last
  /// number of the hole, even when one number is asked for.
  /// iommufd: __alloc_iova_check_range()
  func place(from first: UInt64, through last: UInt64) -> UInt64? {
    let (padded, overflow) = first.addingReportingOverflow(alignment - 1)
    if overflow { return nil }
    let place = padded & ~(alignment - 1) | offset
    guard place < last, last - place >= count - 1 else { return nil }
    return place
  }

  /// Index in ``HoleLengths``.
  fileprivate var alignmentClass: Int { HoleLengths.alignmentClass(of: alignment) }
}

/// How long the longest hole between the spans of a node is, by the alignment that its start is
/// brought to. Computed when asked for; every change of the node forgets it.
struct HoleLengths {
  private static let smallestShift = 12
  private static let largestShift = 21
  private static let classes = largestShift - smallestShift + 2

  private var known: UInt16 = 0
  private var lengths = InlineArray<11, UInt64>(repeating: 0)

  /// 0: as they are. Alignments below a page are not told apart: with an offset they come to
  /// different places, and holes of less than a page are rare.
  fileprivate static func alignmentClass(of alignment: UInt64) -> Int {
    min(max(0, alignment.trailingZeroBitCount - smallestShift + 1), classes - 1)
  }

  mutating func forget() { known = 0 }

  fileprivate subscript(alignmentClass: Int) -> UInt64? {
    get { known >> alignmentClass & 1 == 1 ? lengths[alignmentClass] : nil }
    set {
      guard let newValue else { return }
      known |= 1 << alignmentClass
      lengths[alignmentClass] = newValue
    }
  }

  /// What is left of a hole when its start is aligned.
  fileprivate static func length(
    from first: UInt64, to end: UInt64, _ alignmentClass: Int
  ) -> UInt64 {
    let mask: UInt64 =
      alignmentClass == 0 ? 0 : (1 << UInt64(smallestShift + alignmentClass - 1)) - 1
    let (padded, overflow) = first.addingReportingOverflow(mask)
    let start = padded & ~mask
    return overflow || start >= end ? 0 : end - start
  }
}

extension IntervalMap {
  /// The place of the request in the first hole of the range that it fits in.
  func firstPlace(
    for request: HoleRequest, from first: UInt64, through last: UInt64
  ) -> UInt64? {
    var search = Search(request: request, next: first, last: last)
    if !isEmpty {
      if let place = search.visit(root) { return place }
      if search.isOver { return nil }
    }
    return request.place(from: search.next, through: last)
  }

  private struct Search {
    let request: HoleRequest
    /// Everything before has been looked at.
    var next: UInt64
    let last: UInt64
    var isOver = false

    init(request: HoleRequest, next: UInt64, last: UInt64) {
      self.request = request
      self.next = next
      self.last = last
    }

    /// Tries the hole before `node` and the holes in it.
    mutating func visit(_ node: Node) -> UInt64? {
      if let place = enter(node.first) { return place }
      if isOver { return nil }
      if IntervalMap.longestHole(of: node, request.alignmentClass) >= request.count {
        if let place = visitEntries(of: node) { return place }
        if isOver { return nil }
      }
      leave(node.last)
      return nil
    }

    private mutating func visitEntries(of node: Node) -> UInt64? {
      for index in node.index(endingAtOrAfter: next)..<node.count {
        if node.isLeaf {
          let span = node.spans[index]
          if let place = enter(span.first) { return place }
          if isOver { return nil }
          leave(span.last)
        } else if let place = visit(node.children[index]) {
          return place
        }
        if isOver { return nil }
      }
      return nil
    }

    /// Used numbers begin at `first`: tries the hole before them.
    private mutating func enter(_ first: UInt64) -> UInt64? {
      guard first > next else { return nil }
      if let place = request.place(from: next, through: min(first - 1, last)) { return place }
      if first > last { isOver = true } else { next = first }
      return nil
    }

    /// Used numbers end at `last`.
    private mutating func leave(_ used: UInt64) {
      if used >= last { isOver = true } else if used >= next { next = used + 1 }
    }
  }

  /// Only holes between entries of the node count.
  private static func longestHole(of node: Node, _ alignmentClass: Int) -> UInt64 {
    if let known = node.holes[alignmentClass] { return known }
    var longest: UInt64 = 0
    for index in 0..<node.count {
      if !node.isLeaf {
        longest = max(longest, longestHole(of: node.children[index], alignmentClass))
      }
      if index > 0 {
        let before = node.isLeaf ? node.spans[index - 1].last : node.children[index - 1].last
        let after = node.isLeaf ? node.spans[index].first : node.children[index].first
        // `before` is followed by another span, so adding 1 cannot overflow.
        longest = max(
          longest, HoleLengths.length(from: before + 1, to: after, alignmentClass))
      }
    }
    node.holes[alignmentClass] = longest
    return longest
  }
}
