// An ordered set of disjoint closed ranges of numbers, each with a value: the areas of a page table by
// IOVA, the pinned pages of a mapping by index.
//
// A B+ tree. Leaves hold the spans, inner nodes their children, both in ascending order; every node
// knows the first and the last number below it. Finding, inserting and removing cost one path.
// Beside that a node remembers how long a hole between its spans can be (IntervalMap+Holes.swift), so
// that finding a free place also costs about one path, however many spans lie side by side.

/// `first` and `last` are both in the range.
struct Interval<Value> {
  let first: UInt64
  let last: UInt64
  let value: Value

  /// Cannot overflow but for the whole range of numbers, which is never one span.
  var count: UInt64 { last &- first &+ 1 }
}

final class IntervalMap<Value> {
  /// Entries of a node. Two nodes that together hold half as many become one.
  static var capacity: Int { 32 }

  final class Node {
    /// Of a leaf; empty in an inner node.
    var spans: [Interval<Value>] = []
    /// Of an inner node; empty in a leaf.
    var children: [Node] = []
    private(set) var first: UInt64 = 0
    private(set) var last: UInt64 = 0
    var holes = HoleLengths()

    init(spans: [Interval<Value>]) {
      self.spans = spans
      updateBounds()
    }

    init(children: [Node]) {
      self.children = children
      updateBounds()
    }

    var isLeaf: Bool { children.isEmpty }
    var count: Int { isLeaf ? spans.count : children.count }

    /// To be called after every change below the node.
    func updateBounds() {
      holes.forget()
      if let low = children.first, let high = children.last {
        (first, last) = (low.first, high.last)
      } else if let low = spans.first, let high = spans.last {
        (first, last) = (low.first, high.last)
      }
    }

    /// The index of the first entry that ends at or behind `number`; `count` when none does.
    func index(endingAtOrAfter number: UInt64) -> Int {
      var (low, high) = (0, count)
      while low < high {
        let middle = (low + high) / 2
        let last = isLeaf ? spans[middle].last : children[middle].last
        if last < number { low = middle + 1 } else { high = middle }
      }
      return low
    }

    /// Moves the upper half of the entries to a new node.
    func split() -> Node {
      let half = count / 2
      let upper: Node
      if isLeaf {
        upper = Node(spans: Array(spans[half...]))
        spans.removeSubrange(half...)
      } else {
        upper = Node(children: Array(children[half...]))
        children.removeSubrange(half...)
      }
      updateBounds()
      return upper
    }

    func absorb(_ next: Node) {
      spans += next.spans
      children += next.children
      updateBounds()
    }
  }

  private(set) var root = Node(spans: [])
  private(set) var count = 0

  var isEmpty: Bool { count == 0 }
  var first: Interval<Value>? { isEmpty ? nil : firstSpan(overlapping: 0, through: .max) }

  // MARK: Finding

  /// The first span that has a number in common with the range.
  func firstSpan(overlapping first: UInt64, through last: UInt64) -> Interval<Value>? {
    var node = root
    while true {
      let index = node.index(endingAtOrAfter: first)
      guard index < node.count else { return nil }
      if node.isLeaf {
        let span = node.spans[index]
        return span.first <= last ? span : nil
      }
      node = node.children[index]
    }
  }

  func span(containing number: UInt64) -> Interval<Value>? {
    firstSpan(overlapping: number, through: number)
  }

  /// The span after `span`, if it begins at or before `last`.
  func span(after span: Interval<Value>, through last: UInt64) -> Interval<Value>? {
    guard span.last < last else { return nil }
    return firstSpan(overlapping: span.last + 1, through: last)
  }

  /// Calls `body` with every span, in order.
  func forEach<Failure: Error>(_ body: (Interval<Value>) throws(Failure) -> Void) throws(Failure) {
    try Self.visit(root, body)
  }

  private static func visit<Failure: Error>(
    _ node: Node, _ body: (Interval<Value>) throws(Failure) -> Void
  ) throws(Failure) {
    for span in node.spans { try body(span) }
    for child in node.children { try visit(child, body) }
  }

  // MARK: Changing

  /// The range must have no number in common with another span.
  func insert(_ span: Interval<Value>) {
    assert(firstSpan(overlapping: span.first, through: span.last) == nil, "spans are disjoint")
    if let upper = insert(span, below: root) { root = Node(children: [root, upper]) }
    count += 1
  }

  /// - Returns: a new node that follows `node`, when that had no room.
  private func insert(_ span: Interval<Value>, below node: Node) -> Node? {
    let index = node.index(endingAtOrAfter: span.first)
    if node.isLeaf {
      node.spans.insert(span, at: index)
    } else {
      let place = min(index, node.children.count - 1)
      if let upper = insert(span, below: node.children[place]) {
        node.children.insert(upper, at: place + 1)
      }
    }
    if node.count > Self.capacity { return node.split() }
    node.updateBounds()
    return nil
  }

  /// Removes the span that contains `number`.
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
      guard node.spans[index].first <= number else { return nil }
      removed = node.spans.remove(at: index)
    } else {
      guard let span = remove(number, below: node.children[index]) else { return nil }
      removed = span
      Self.rebalance(&node.children, at: index)
    }
    node.updateBounds()
    return removed
  }

  /// A child that has shrunk is dropped when it is empty, and joined with a neighbour when both are
  /// small. A node whose last child is dropped is an empty leaf, and dropped in turn.
  private static func rebalance(_ children: inout [Node], at index: Int) {
    if children[index].count == 0 {
      children.remove(at: index)
      return
    }
    for low in [index - 1, index] where low >= 0 && low + 1 < children.count {
      if children[low].count + children[low + 1].count <= capacity / 2 {
        children[low].absorb(children.remove(at: low + 1))
        return
      }
    }
  }
}
