// SPDX-License-Identifier: Apache-2.0

/// Elements with a count of users each, in an array that is ready to be iterated. An element is
/// added with its first user and removed with its last one; both take constant time, so that a
/// domain can be attached to as many PASIDs as a device has. The order is that of the additions
/// until an element is removed: the last one then takes its place.
struct CountedSet<Element: Hashable> {
  private(set) var elements: [Element] = []
  /// The index in `elements`, and the number of users.
  private var entries: [Element: (index: Int, users: Int)] = [:]

  mutating func add(_ element: Element) {
    if entries[element] != nil {
      entries[element]?.users += 1
    } else {
      entries[element] = (elements.count, 1)
      elements.append(element)
    }
  }

  /// Removes a user of `element`. Does nothing when the element has none.
  mutating func remove(_ element: Element) {
    guard let entry = entries[element] else { return }
    guard entry.users == 1 else {
      entries[element]?.users -= 1
      return
    }
    entries[element] = nil
    let last = elements.removeLast()
    if entry.index < elements.count {
      elements[entry.index] = last
      entries[last]?.index = entry.index
    }
  }
}
