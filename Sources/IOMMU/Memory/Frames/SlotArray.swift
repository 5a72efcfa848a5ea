// SPDX-License-Identifier: Apache-2.0

/// Elements with stable indexes, in constant time each. A new element gets the index of an element
/// that was removed, if there is one.
struct SlotArray<Element> {
  private var slots: [Element?] = []
  private var freeIndexes: [Int] = []

  /// Whether no element was ever added.
  var isUnused: Bool { slots.isEmpty }

  var count: Int { slots.count - freeIndexes.count }

  var elements: some Sequence<Element> { slots.lazy.compactMap { $0 } }

  /// Returns the element at `index`. Replaces it when an element is assigned, and removes it when
  /// `nil` is.
  subscript(_ index: Int) -> Element? {
    get { slots[index] }
    set {
      if newValue == nil, slots[index] != nil { freeIndexes.append(index) }
      slots[index] = newValue
    }
  }

  /// Adds an element.
  /// - Returns: its index.
  mutating func add(_ element: Element) -> Int {
    if let index = freeIndexes.popLast() {
      slots[index] = element
      return index
    }
    slots.append(element)
    return slots.count - 1
  }
}
