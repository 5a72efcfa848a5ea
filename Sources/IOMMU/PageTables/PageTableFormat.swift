// What differs between page-table formats, and nothing else: the bits of one entry.
//
// Words used here and in the walker and the mapper: level 0 is the table whose entries are always
// leaves, whatever a vendor calls it; a *leaf* holds an output address, a *table* entry the address of the
// next lower table; an *item* is what one entry of a level spans. A leaf may map a page of several
// items: then as many entries, naturally aligned, hold the same leaf. Formats are enums without cases:
// all requirements are static, so that the generic code is specialised for each of them.

/// What an entry is, as far as the algorithms care.
enum EntryClass {
  case empty
  case leaf
  case table
}

protocol PageTableFormat {
  /// log2 of the smallest page.
  static var granuleShift: Int { get }
  /// log2 of the entries in a table.
  static var indexBits: Int { get }

  static func classify(_ entry: UInt64, level: Int) -> EntryClass
  /// The output address of a leaf, or the address of the table that a table entry names.
  static func address(_ entry: UInt64) -> PhysicalAddress
  /// What this entry alone allows.
  static func permissions(_ entry: UInt64) -> Permissions

  /// The entry of a table at `level` for the next lower table.
  static func makeTable(at address: PhysicalAddress, level: Int) -> UInt64
  /// - Parameter shift: log2 of the page's size, one of ``possibleSizes(level:)``.
  static func makeLeaf(
    at address: PhysicalAddress, level: Int, shift: Int, permissions: Permissions, snoops: Bool
  ) -> UInt64

  /// Bit n: a leaf of a table at `level` can map 2^n bytes.
  static func possibleSizes(level: Int) -> UInt64
  /// log2 of the page that a leaf maps.
  static func leafShift(_ entry: UInt64, level: Int) -> Int

  /// The flag that hardware sets in every entry it uses, and in a leaf it writes through.
  static var accessed: UInt64 { get }
  static var dirty: UInt64 { get }

  /// Whether a leaf was written through, and the leaf without and with that.
  static func isDirty(_ leaf: UInt64) -> Bool
  static func cleaned(_ leaf: UInt64) -> UInt64
  static func dirtied(_ leaf: UInt64) -> UInt64
}

extension PageTableFormat {
  /// The format has one page size for each level.
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

  /// A leaf of one item.
  static func makeLeaf(
    at address: PhysicalAddress, level: Int, permissions: Permissions, snoops: Bool
  ) -> UInt64 {
    makeLeaf(
      at: address, level: level, shift: itemShift(level), permissions: permissions, snoops: snoops)
  }

  /// log2 of what one entry of a table at `level` spans.
  @inline(__always)
  static func itemShift(_ level: Int) -> Int { granuleShift &+ indexBits &* level }

  @inline(__always)
  static func index(_ address: UInt64, level: Int) -> UInt64 {
    (address &>> UInt64(truncatingIfNeeded: itemShift(level)))
      & (1 &<< UInt64(truncatingIfNeeded: indexBits) &- 1)
  }

  /// Where the entry for `address` is in the table at `table`.
  @inline(__always)
  static func entryAddress(
    _ address: UInt64, level: Int, table: PhysicalAddress
  ) -> PhysicalAddress {
    PhysicalAddress(table.rawValue &+ index(address, level: level) &* 8)
  }

  /// log2 of what a table at `level` spans.
  static func tableShift(_ level: Int) -> Int { itemShift(level + 1) }
}

/// What one hardware unit demands of entries, computed once from its capabilities.
struct EntryRules: Sendable {
  /// Bits that must be zero in a table entry and in a leaf, by level.
  var reservedInTable: InlineArray<6, UInt64> = .init(repeating: 0)
  var reservedInLeaf: InlineArray<6, UInt64> = .init(repeating: 0)
}

/// One table as hardware is told about it.
struct TableRoot: Hashable, Sendable, BitwiseCopyable {
  var address: PhysicalAddress
  var topLevel: Int
  /// Whether the hardware keeps accessed and dirty flags.
  let updatesFlags: Bool
  /// What else the table's owner chose, as far as the format has it.
  var options: WalkOptions = []
  /// Bits that no present entry of this table may have, whatever the unit's rules say.
  var forbidden: UInt64 = 0
  /// What entries above the root leave allowed: a walk may begin at a table that an earlier one came to.
  var grant: UInt64 = .max
}
