// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Collects the arguments of callbacks, which come from any thread, in order.
package final class Collector<Element: Sendable>: Sendable {
  private let elements = Mutex<[Element]>([])

  package init() {}

  package func add(_ element: Element) { elements.withLock { $0.append(element) } }

  /// Removes all elements and returns them.
  package func drain() -> [Element] {
    elements.withLock { elements in
      defer { elements = [] }
      return elements
    }
  }
}
