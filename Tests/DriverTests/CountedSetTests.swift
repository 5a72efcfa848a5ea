// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import IOMMUFD

@Suite struct CountedSetTests {
  @Test("a counted set has the elements that were added more often than removed", arguments: 1...20)
  func countsUsers(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var set = CountedSet<Int>()
    var model: [Int: Int] = [:]
    for _ in 0..<2000 {
      let element = Int.random(in: 0..<40, using: &random)
      if Bool.random(using: &random) {
        set.add(element)
        model[element, default: 0] += 1
      } else {
        set.remove(element)
        if let count = model[element] { model[element] = count > 1 ? count - 1 : nil }
      }
      #expect(set.elements.sorted() == model.keys.sorted())
    }
  }
}
