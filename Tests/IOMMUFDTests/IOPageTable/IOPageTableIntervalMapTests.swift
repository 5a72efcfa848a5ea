// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import IOMMUFD

extension IntervalMap {
  /// All intervals in order.
  var intervals: [Interval<Value>] {
    var all: [Interval<Value>] = []
    forEach { all.append($0) }
    return all
  }

  /// Whether every node has correct bounds and at most `capacity` entries, and no node is empty.
  var isSound: Bool { isEmpty || Self.isSound(root) }

  private static func isSound(_ node: Node) -> Bool {
    guard node.count > 0, node.count <= capacity else { return false }
    if node.isLeaf {
      return node.first == node.intervals[0].first
        && node.last == node.intervals[node.count - 1].last
    }
    return node.first == node.children[0].first
      && node.last == node.children[node.count - 1].last
      && node.children.allSatisfy(isSound)
  }
}

@Suite struct IntervalMapTests {
  @Test("an empty map has no interval")
  func emptyTreeFindsNothing() {
    let tree = IntervalMap<Int>()
    #expect(tree.firstInterval(overlapping: 0, through: .max) == nil)
    #expect(tree.remove(containing: 5) == nil)
    #expect(tree.first == nil)
  }

  @Test("an interval can end at the last number")
  func theLastNumberCanBeUsed() throws {
    let tree = IntervalMap<Int>()
    tree.insert(Interval(first: .max - 4095, last: .max, value: 1))
    #expect(tree.interval(containing: .max)?.value == 1)
    let span = try #require(tree.first)
    #expect(tree.interval(after: span, through: .max) == nil)
    let request = HoleRequest(count: 4096, alignment: 4096, offset: 0)
    #expect(tree.firstPosition(for: request, from: .max - 4095, through: .max) == nil)
    #expect(tree.firstPosition(for: request, from: 0, through: .max) == 0)
  }

  @Test(
    "random insertions and removals agree with a sorted array", arguments: [1, 2, 3] as [UInt64])
  func behavesAsASortedArray(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    let tree = IntervalMap<UInt64>()
    var model: [UInt64: (last: UInt64, value: UInt64)] = [:]
    for step in 0..<20_000 {
      // The map grows and then shrinks until it is empty, twice.
      let isGrowing = step % 10_000 < 5_000
      let first = UInt64.random(in: 0..<4096, using: &random) * 16
      let number = first + UInt64.random(in: 0..<16, using: &random)
      if UInt64.random(in: 0..<100, using: &random) < (isGrowing ? 85 : 25) {
        guard model[first] == nil else { continue }
        let last = first + UInt64.random(in: 0..<16, using: &random)
        tree.insert(Interval(first: first, last: last, value: number))
        model[first] = (last, number)
      } else {
        let removed = tree.remove(containing: number)
        let expected = model[first].flatMap { $0.last >= number ? $0 : nil }
        #expect(removed?.value == expected?.value)
        if expected != nil { model[first] = nil }
      }
      if step % 500 == 0 {
        #expect(tree.isSound)
        #expect(tree.intervals.map(\.first) == model.keys.sorted())
      }
    }
    #expect(tree.count == model.count)
    for first in model.keys { tree.remove(containing: first) }
    #expect(tree.isEmpty && tree.intervals.isEmpty)
  }

  @Test("removal in ascending order leaves no empty node")
  func removalInOrderLeavesNoEmptyNode() {
    let tree = IntervalMap<Int>()
    for index in 0..<5_000 {
      tree.insert(Interval(first: UInt64(index) * 2, last: UInt64(index) * 2, value: index))
    }
    for index in 0..<4_999 {
      tree.remove(containing: UInt64(index) * 2)
      if index % 97 == 0 || index > 4_950 { #expect(tree.isSound) }
    }
    #expect(tree.intervals.map(\.value) == [4_999])
  }
}
