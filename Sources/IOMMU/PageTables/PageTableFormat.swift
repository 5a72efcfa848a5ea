// SPDX-License-Identifier: Apache-2.0

// The bits of one entry, in each page-table format. A format contains only what differs between
// formats; the walker and the mapper contain the algorithms. Formats are enums without cases and
// all requirements are static, so that the compiler specialises the algorithms for each format.
//
// Words of the formats, the walker and the mapper:
//
//   level          The number of steps that a walk has left below a table. The entries of level 0
//                  are always leaves, whatever number the specification gives that level.
//   leaf           An entry that holds an output address.
//   table entry    An entry that holds the address of the next lower table.
//   item           The range of addresses that one entry of a level spans.
//
// A page can be larger than an item. Then several entries, naturally aligned, hold the same leaf.

/// The classes of entries that the algorithms distinguish.
enum EntryClass {
  case empty
  case leaf
  case table
}

/// A format as a driver uses it, for entries that the driver makes.
protocol PageTableFormat {
  /// log2 of the smallest page size.
  static var granuleShift: Int { get }
  /// log2 of the number of entries in a table.
  static var indexBits: Int { get }

  static func classify(_ entry: UInt64, level: Int) -> EntryClass
  /// Returns the output address of a leaf, or the address of the table that a table entry refers
  /// to.
  static func address(_ entry: UInt64) -> PhysicalAddress
  /// Returns the permissions of this entry alone.
  static func permissions(_ entry: UInt64) -> Permissions

  /// Makes the entry of a table at `level` that refers to the lower table at `address`.
  static func makeTable(at address: PhysicalAddress, level: Int) -> UInt64
  /// Makes a leaf.
  /// - Parameters:
  ///   - shift: log2 of the page's size, one of ``possibleSizes(level:)``.
  ///   - snoops: whether the access snoops processor caches even when the request does not ask for
  ///     it.
  static func makeLeaf(
    at address: PhysicalAddress, level: Int, shift: Int, permissions: Permissions, snoops: Bool
  ) -> UInt64

  /// Returns the page sizes of a table at `level`. Bit n: a leaf can map 2^n bytes.
  static func possibleSizes(level: Int) -> UInt64
  /// Returns log2 of the size of the page that a leaf maps.
  static func leafShift(_ entry: UInt64, level: Int) -> Int

  /// The flag that hardware sets in every entry that it uses.
  static var accessed: UInt64 { get }
  /// The flag that hardware sets in a leaf when it writes through the leaf.
  static var dirty: UInt64 { get }

  /// Returns whether hardware has written through the leaf.
  static func isDirty(_ leaf: UInt64) -> Bool
  /// Returns the leaf with a clear dirty flag.
  static func cleaned(_ leaf: UInt64) -> UInt64
  /// Returns the leaf with a set dirty flag.
  static func dirtied(_ leaf: UInt64) -> UInt64
}

extension PageTableFormat {
  // The defaults are for formats with one page size for each level and a dirty flag.

  @inline(__always)
  static func possibleSizes(level: Int) -> UInt64 { 1 << UInt64(itemShift(level)) }

  @inline(__always)
  static func leafShift(_ entry: UInt64, level: Int) -> Int { itemShift(level) }

  @inline(__always)
  static func isDirty(_ leaf: UInt64) -> Bool { leaf & dirty != 0 }

  @inline(__always)
  static func cleaned(_ leaf: UInt64) -> UInt64 { leaf & ~dirty }

  @inline(__always)
  static func dirtied(_ leaf: UInt64) -> UInt64 { leaf | dirty }

  /// Makes a leaf of one item.
  static func makeLeaf(
    at address: PhysicalAddress, level: Int, permissions: Permissions, snoops: Bool
  ) -> UInt64 {
    makeLeaf(
      at: address, level: level, shift: itemShift(level), permissions: permissions, snoops: snoops)
  }

  /// Returns log2 of the bytes that an entry of a table at `level` spans.
  @inline(__always)
  static func itemShift(_ level: Int) -> Int { granuleShift &+ indexBits &* level }

  /// Returns the index of the entry for `address` in a table at `level`.
  @inline(__always)
  static func index(_ address: UInt64, level: Int) -> UInt64 {
    (address &>> UInt64(truncatingIfNeeded: itemShift(level)))
      & (1 &<< UInt64(truncatingIfNeeded: indexBits) &- 1)
  }

  /// Returns the address of the entry for `address` in the table at `table`.
  @inline(__always)
  static func entryAddress(
    _ address: UInt64, level: Int, table: PhysicalAddress
  ) -> PhysicalAddress {
    PhysicalAddress(table.rawValue &+ index(address, level: level) &* 8)
  }

  /// Returns log2 of the bytes that a table at `level` spans.
  static func tableShift(_ level: Int) -> Int { itemShift(level + 1) }
}

/// The reserved bits of entries that a unit checks. A unit computes them once, from its
/// capabilities.
struct EntryRules: Sendable {
  /// The bits that must be zero in a table entry, by level.
  var reservedInTable: InlineArray<6, UInt64> = .init(repeating: 0)
  /// The bits that must be zero in a leaf, by level.
  var reservedInLeaf: InlineArray<6, UInt64> = .init(repeating: 0)
}

/// The root of a page table as a unit's configuration tables describe it.
struct TableRoot: Hashable, Sendable, BitwiseCopyable {
  var address: PhysicalAddress
  var topLevel: Int
  /// Whether hardware sets accessed and dirty flags.
  let updatesFlags: Bool
  /// Further choices of the table's owner, as far as the format has them.
  var options: WalkOptions = []
  /// Bits that no present entry of this table may have, in addition to the unit's ``EntryRules``.
  var forbidden: UInt64 = 0
  /// The rights that the entries above the root leave: a walk can start from a cached lower table.
  /// See ``WalkableFormat/grant(_:root:)``.
  var grant: UInt64 = .max
}
