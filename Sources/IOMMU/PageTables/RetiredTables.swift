// SPDX-License-Identifier: Apache-2.0

/// Tables that a change of a page table unlinked. Hardware can still walk them, so they are freed
/// only after the invalidation that follows the change.
///
/// A change unlinks at most one table of each level, unless a large page replaces many tables.
/// There is therefore room for eight tables without an allocation.
package struct RetiredTables {
  /// The first eight tables. A SIMD vector, because a vector needs no type metadata at run time
  /// when it is passed to another module.
  private var firstTables = SIMD8<UInt64>()
  private var moreTables: [PhysicalAddress] = []
  package private(set) var count = 0
  /// Whether all of the tables hold only zeros.
  private(set) var areClear = true
  private static var inlineCapacity: Int { 8 }

  package var isEmpty: Bool { count == 0 }

  /// - Parameter isClear: whether the table holds only zeros, not even entries of tables below it.
  mutating func append(_ table: PhysicalAddress, isClear: Bool) {
    areClear = areClear && isClear
    if count < Self.inlineCapacity {
      firstTables[count] = table.rawValue
    } else {
      appendMore(table)
    }
    count &+= 1
  }

  @inline(never)
  private mutating func appendMore(_ table: PhysicalAddress) { moreTables.append(table) }

  mutating func removeLast(_ number: Int) {
    count -= number
    moreTables.removeLast(moreTables.count - max(0, count - Self.inlineCapacity))
  }

  func forEach(_ body: (PhysicalAddress) -> Void) {
    for index in 0..<min(count, Self.inlineCapacity) { body(PhysicalAddress(firstTables[index])) }
    for table in moreTables { body(table) }
  }
}
