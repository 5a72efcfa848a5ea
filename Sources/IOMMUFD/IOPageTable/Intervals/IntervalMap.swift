// SPDX-License-Identifier: Apache-2.0

// An ordered map from disjoint closed intervals of numbers to values: the areas of a page table by
// IOVA, the pinned pages of a mapping by index. It does what the kernel's interval tree does for
// iommufd.
//
// A B+ tree. Leaves hold the intervals, inner nodes hold their children, both in ascending order;
// every node knows the first and the last number below it. To find, insert or remove takes one
// path. A node also knows the length of the longest hole between its entries, so that the search
// for a free position takes about one path too, however many intervals are adjacent.

/// `first` and `last` are both in the interval.
struct Interval<Value> {
  let first: UInt64
  let last: UInt64
  let value: Value

  /// Wraps to 0 for the interval of all numbers, which no map contains.
  var count: UInt64 { last &- first &+ 1 }
}

final class IntervalMap<Value> {
  /// The number of entries that a node can have. Two neighbours that together have at most half as
  /// many are merged.
  static var capacity: Int { 32 }

  final class Node {
    /// The intervals of a leaf. Empty in an inner node.
    fileprivate(set) var intervals: [Interval<Value>] = []
    /// The children of an inner node. Empty in a leaf.
    fileprivate(set) var children: [Node] = []
    private(set) var first: UInt64 = 0
    private(set) var last: UInt64 = 0
    fileprivate var holes = HoleLengths()

    fileprivate init(intervals: [Interval<Value>]) {
      self.intervals = intervals
      updateBounds()
    }

    fileprivate init(children: [Node]) {
      self.children = children
      updateBounds()
    }

    var isLeaf: Bool { children.isEmpty }
    var count: Int { isLeaf ? intervals.count : children.count }

    /// Must be called after every change below the node.
    fileprivate func updateBounds() {
      holes.invalidate()
      if let low = children.first, let high = children.last {
        (first, last) = (low.first, high.last)
      } else if let low = intervals.first, let high = intervals.last {
        (first, last) = (low.first, high.last)
      }
    }

    /// Returns the index of the first entry that ends at or after `number`; `count` when none does.
    fileprivate func index(endingAtOrAfter number: UInt64) -> Int {
      var (low, high) = (0, count)
      while low < high {
        let middle = (low + high) / 2
        let last = isLeaf ? intervals[middle].last : children[middle].last
        if last < number { low = middle + 1 } else { high = middle }
      }
      return low
    }

    /// Moves the upper half of the entries to a new node.
    fileprivate func split() -> Node {
      let half = count / 2
      let upper: Node
      if isLeaf {
        upper = Node(intervals: Array(intervals[half...]))
        intervals.removeSubrange(half...)
      } else {
        upper = Node(children: Array(children[half...]))
        children.removeSubrange(half...)
      }
      updateBounds()
      return upper
    }

    /// Appends the entries of the next node.
    fileprivate func merge(_ next: Node) {
      intervals += next.intervals
      children += next.children
      updateBounds()
    }
  }

  private(set) var root = Node(intervals: [])
  private(set) var count = 0

  var isEmpty: Bool { count == 0 }
  var first: Interval<Value>? { isEmpty ? nil : firstInterval(overlapping: 0, through: .max) }

  // MARK: Finding

  /// Returns the first interval that has a number in common with `first` through `last`.
  func firstInterval(overlapping first: UInt64, through last: UInt64) -> Interval<Value>? {
    var node = root
    while true {
      let index = node.index(endingAtOrAfter: first)
      guard index < node.count else { return nil }
      if node.isLeaf {
        let interval = node.intervals[index]
        return interval.first <= last ? interval : nil
      }
      node = node.children[index]
    }
  }

  func interval(containing number: UInt64) -> Interval<Value>? {
    firstInterval(overlapping: number, through: number)
  }

  /// Returns the interval after `interval`, if it begins at or before `last`.
  func interval(after interval: Interval<Value>, through last: UInt64) -> Interval<Value>? {
    guard interval.last < last else { return nil }
    return firstInterval(overlapping: interval.last + 1, through: last)
  }

  /// Calls `body` with every interval, in ascending order.
  func forEach<Failure: Error>(_ body: (Interval<Value>) throws(Failure) -> Void) throws(Failure) {
    try Self.visit(root, body)
  }

  private static func visit<Failure: Error>(
    _ node: Node, _ body: (Interval<Value>) throws(Failure) -> Void
  ) throws(Failure) {
    for interval in node.intervals { try body(interval) }
    for child in node.children { try visit(child, body) }
  }

  // MARK: Inserting

  /// - Parameter interval: must not overlap an interval of the map.
  func insert(_ interval: Interval<Value>) {
    assert(
      firstInterval(overlapping: interval.first, through: interval.last) == nil,
      "intervals are disjoint")
    if let upper = insert(interval, below: root) { root = Node(children: [root, upper]) }
    count += 1
  }

  /// - Returns: the new node that follows `node` when `node` was full.
  private func insert(_ interval: Interval<Value>, below node: Node) -> Node? {
    let index = node.index(endingAtOrAfter: interval.first)
    if node.isLeaf {
      node.intervals.insert(interval, at: index)
    } else {
      let child = min(index, node.children.count - 1)
      if let upper = insert(interval, below: node.children[child]) {
        node.children.insert(upper, at: child + 1)
      }
    }
    if node.count > Self.capacity { return node.split() }
    node.updateBounds()
    return nil
  }

  // MARK: Removing

  /// Removes the interval that contains `number`.
  @discardableResult
  func remove(containing number: UInt64) -> Interval<Value>? {
    guard let removed = remove(number, below: root) else { return nil }
    count -= 1
    while !root.isLeaf, root.children.count == 1 { root = root.children[0] }
    return removed
  }

  private func remove(_ number: UInt64, below node: Node) -> Interval<Value>? {
    let index = node.index(endingAtOrAfter: number)
    guard index < node.count else { return nil }
    let removed: Interval<Value>
    if node.isLeaf {
      guard node.intervals[index].first <= number else { return nil }
      removed = node.intervals.remove(at: index)
    } else {
      guard let interval = remove(number, below: node.children[index]) else { return nil }
      removed = interval
      Self.rebalance(&node.children, at: index)
    }
    node.updateBounds()
    return removed
  }

  /// Removes the child at `index` when it is empty, and merges it with a neighbour when both are
  /// small. A node that loses its last child has become an empty leaf, which its parent removes.
  private static func rebalance(_ children: inout [Node], at index: Int) {
    if children[index].count == 0 {
      children.remove(at: index)
      return
    }
    for low in [index - 1, index] where low >= 0 && low + 1 < children.count {
      if children[low].count + children[low + 1].count <= capacity / 2 {
        children[low].merge(children.remove(at: low + 1))
        return
      }
    }
  }

  // MARK: Holes

  /// Returns the position of `request` in the first hole between `first` and `last` that it fits
  /// into.
  func firstPosition(
    for request: HoleRequest, from first: UInt64, through last: UInt64
  ) -> UInt64? {
    var search = Search(request: request, next: first, last: last)
    if !isEmpty {
      if let position = search.visit(root) { return position }
      if search.isOver { return nil }
    }
    return request.position(from: search.next, through: last)
  }

  private struct Search {
    let request: HoleRequest
    /// All holes before this number have been tried.
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
      if let position = enter(node.first) { return position }
      if isOver { return nil }
      if IntervalMap.longestHole(of: node, request.alignmentClass) >= request.count {
        if let position = visitEntries(of: node) { return position }
        if isOver { return nil }
      }
      leave(node.last)
      return nil
    }

    private mutating func visitEntries(of node: Node) -> UInt64? {
      for index in node.index(endingAtOrAfter: next)..<node.count {
        if node.isLeaf {
          let interval = node.intervals[index]
          if let position = enter(interval.first) { return position }
          if isOver { return nil }
          leave(interval.last)
        } else if let position = visit(node.children[index]) {
          return position
        }
        if isOver { return nil }
      }
      return nil
    }

    /// Tries the hole before `used`, the first number of an interval or node.
    private mutating func enter(_ used: UInt64) -> UInt64? {
      guard used > next else { return nil }
      if let position = request.position(from: next, through: min(used - 1, last)) {
        return position
      }
      if used > last { isOver = true } else { next = used }
      return nil
    }

    /// Continues after `used`, the last number of an interval or node.
    private mutating func leave(_ used: UInt64) {
      if used >= last { isOver = true } else if used >= next { next = used + 1 }
    }
  }

  /// Returns the length of the longest hole between entries of `node`, at every level below it.
  private static func longestHole(of node: Node, _ alignmentClass: Int) -> UInt64 {
    if let known = node.holes[alignmentClass] { return known }
    var longest: UInt64 = 0
    for index in 0..<node.count {
      if !node.isLeaf {
        longest = max(longest, longestHole(of: node.children[index], alignmentClass))
      }
      if index > 0 {
        let before = node.isLeaf ? node.intervals[index - 1].last : node.children[index - 1].last
        let after = node.isLeaf ? node.intervals[index].first : node.children[index].first
        // Another interval follows `before`, so the addition cannot overflow.
        longest = max(
          longest, HoleLengths.length(from: before + 1, to: after, alignmentClass))
      }
    }
    node.holes[alignmentClass] = longest
    return longest
  }
}
