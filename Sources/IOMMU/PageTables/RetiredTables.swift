// Tables that are no longer linked, on their way from the change that unlinked them, past the
// invalidation, to the allocator. A change retires a table for each level at most, unless a large page
// took the place of many; so there is room for a few without an allocation.

package struct RetiredTables {
  /// A vector, because it needs no metadata at run time where it is passed to another module.
  private var few = SIMD8<UInt64>()
  private var more: [PhysicalAddress] = []
  package private(set) var count = 0
  /// All of them hold zeros.
  private(set) var areClear = true
  private static var fewCount: Int { 8 }

  package var isEmpty: Bool { count == 0 }

  /// - Parameter isClear: the table holds zeros, not even entries of tables below it.
  mutating func append(_ table: PhysicalAddress, isClear: Bool) {
    areClear = areClear && isClear
    if count < Self.fewCount { few[count] = table.rawValue } else { appendFurther(table) }
    count &+= 1
  }

  @inline(never)
  private mutating func appendFurther(_ table: PhysicalAddress) { more.append(table) }

  mutating func removeLast(_ number: Int) {
    count -= number
    more.removeLast(more.count - max(0, count - Self.fewCount))
  }

  func forEach(_ body: (PhysicalAddress) -> Void) {
    for index in 0..<min(count, Self.fewCount) { body(PhysicalAddress(few[index])) }
    for table in more { body(table) }
  }
}
