// SPDX-License-Identifier: Apache-2.0

// AMD host page-table entries (AMD 48882, revision 3.10, §2.2.3 "I/O Page Tables for Host
// Translations").
//
//   level 0 is the specification's level 1 (its "mode 1"), level 1 its level 2, and so on.
//
// The Next Level field of an entry says what the entry is: 0 is a page of one item, 7 a page of
// another size, and any other value a table. The size of a page with Next Level 7 is encoded in the
// lowest bits of its address field: n ones below a zero mean a page of 2^(n + 1) granules. All
// powers of two are possible, and all entries that the page spans hold the same value. A table
// entry can skip levels. The input address must then have zeros in the bits that would index the
// skipped tables.
//
// The kernel's mock unit uses the same entries with pages of 2 KiB, half of a system page. Its
// granule has 11 bits where AMD's has 12, and addresses are stored one bit further to the left.

/// The format of AMD's host tables and of the mock unit's tables, which differ only in the granule.
protocol AMDv1Format: WalkableFormat {}

/// Host tables of AMD-Vi.
enum AMDv1: AMDv1Format {
  static var granuleShift: Int { 12 }
}

/// Tables of the mock unit.
enum AMDv1Mock: AMDv1Format {
  static var granuleShift: Int { 11 }
}

/// The bits of an entry, and the shifts of its fields.
private enum Bits {
  static let present: UInt64 = 1 << 0
  static let accessed: UInt64 = 1 << 5
  static let dirty: UInt64 = 1 << 6
  static let nextLevelShift: UInt64 = 9
  /// FC: accesses are coherent even when the request does not ask for it.
  static let forceCoherent: UInt64 = 1 << 60
  static let read: UInt64 = 1 << 61
  static let write: UInt64 = 1 << 62
  static let addressMask: UInt64 = 0x000f_ffff_ffff_f000
  static let addressShift: UInt64 = 12
  /// The Next Level of a page whose size is encoded in its address.
  static let sizeInAddress: UInt64 = 7
}

extension AMDv1Format {
  static var indexBits: Int { 9 }
  static var accessed: UInt64 { Bits.accessed }
  static var dirty: UInt64 { Bits.dirty }

  @inline(__always)
  private static func nextLevel(_ entry: UInt64) -> UInt64 { entry &>> Bits.nextLevelShift & 7 }

  /// Returns the address field of an entry, in granules.
  @inline(__always)
  private static func number(_ entry: UInt64) -> UInt64 {
    (entry & Bits.addressMask) &>> Bits.addressShift
  }

  /// Returns the address field for an address.
  @inline(__always)
  private static func field(_ address: UInt64) -> UInt64 {
    (address &>> UInt64(truncatingIfNeeded: granuleShift)) &<< Bits.addressShift
      & Bits.addressMask
  }

  @inline(__always)
  static func classify(_ entry: UInt64, level: Int) -> EntryClass {
    if entry & Bits.present == 0 { return .empty }
    let next = nextLevel(entry)
    return level == 0 || next == 0 || next == Bits.sizeInAddress ? .leaf : .table
  }

  @inline(__always)
  static func address(_ entry: UInt64) -> PhysicalAddress {
    var number = number(entry)
    // The run of ones and the zero above it encode the size, and are zeros in the address.
    if nextLevel(entry) == Bits.sizeInAddress { number &= number &+ 1 }
    return PhysicalAddress(number &<< UInt64(truncatingIfNeeded: granuleShift))
  }

  @inline(__always)
  static func permissions(_ entry: UInt64) -> Permissions {
    var permissions: Permissions = []
    if entry & Bits.read != 0 { permissions.insert(.read) }
    if entry & Bits.write != 0 { permissions.insert(.write) }
    return permissions
  }

  @inline(__always)
  static func permissions(_ entry: UInt64, grant: UInt64, root _: TableRoot) -> Permissions {
    permissions(entry & grant)
  }

  @inline(__always)
  static func leafShift(_ entry: UInt64, level: Int) -> Int {
    guard nextLevel(entry) == Bits.sizeInAddress else { return itemShift(level) }
    return granuleShift &+ (~number(entry)).trailingZeroBitCount &+ 1
  }

  // MARK: Walks

  @inline(__always)
  static func settingFlags(leaf entry: UInt64, writing: Bool, root: TableRoot) -> UInt64 {
    guard root.updatesFlags else { return entry }
    let setsDirty = writing && !root.options.contains(.accessedFlagOnly)
    return entry | accessed | (setsDirty ? dirty : 0)
  }

  @inline(__always)
  static func nextLevel(_ entry: UInt64, level _: Int) -> Int {
    Int(truncatingIfNeeded: nextLevel(entry)) &- 1
  }

  /// Returns whether the table is not of a lower level, the input address has ones in the bits of a
  /// skipped level, or a reserved bit is set.
  @inline(__always)
  static func isMalformed(
    table entry: UInt64, for address: UInt64, level: Int, root _: TableRoot,
    rules: borrowing EntryRules
  ) -> Bool {
    // 1 to 6: an entry with 0 or 7 is a leaf.
    let next = Int(truncatingIfNeeded: nextLevel(entry))
    guard next <= level else { return true }
    let spanned = UInt64(truncatingIfNeeded: itemShift(level) &- itemShift(next))
    let skipped =
      address &>> UInt64(truncatingIfNeeded: itemShift(next))
      & (1 &<< spanned &- 1)
    // SAFETY: a level is at most 5.
    let reserved = entry & rules.reservedInTable[unchecked: level]
    return skipped | reserved != 0
  }

  /// Returns whether the page has a size that its level does not have, or a reserved bit is set.
  @inline(__always)
  static func isMalformed(
    leaf entry: UInt64, for _: UInt64, level: Int, root _: TableRoot,
    rules: borrowing EntryRules
  ) -> Bool {
    let next = nextLevel(entry)
    guard next == 0 || next == Bits.sizeInAddress, level < 5 else { return true }
    let shift = leafShift(entry, level: level)
    let first = itemShift(level)
    guard shift >= first, shift < first &+ indexBits, shift < 52 else { return true }
    // SAFETY: a level is at most 5.
    return entry & rules.reservedInLeaf[unchecked: level] != 0
  }

  /// Returns whether a reserved bit of the entry is set. Hardware refuses other entries for their
  /// level or size.
  static func hasReservedBits(
    _ entry: UInt64, level: Int, rules: borrowing EntryRules
  ) -> Bool {
    let isTable = classify(entry, level: level) == .table
    return entry & (isTable ? rules.reservedInTable : rules.reservedInLeaf)[level] != 0
  }

  @inline(__always)
  static func page(
    _ entry: UInt64, for _: UInt64, level: Int, root _: TableRoot
  ) -> (physical: PhysicalAddress, shift: Int) {
    let shift = leafShift(entry, level: level)
    let offset = 1 &<< UInt64(truncatingIfNeeded: shift) &- 1
    return (PhysicalAddress(address(entry).rawValue & ~offset), shift)
  }

  /// Returns the reserved bits: [58:52] of pages, [60:52] of table entries, and address bits from
  /// `addressBits` on.
  static func rules(addressBits: Int) -> EntryRules {
    var rules = EntryRules()
    let tooWide = Bits.addressMask & ~field(1 << UInt64(addressBits) - 1)
    for level in 0..<6 {
      rules.reservedInTable[level] = tooWide | 0x1ff << 52
      rules.reservedInLeaf[level] = tooWide | 0x7f << 52
    }
    return rules
  }

  // MARK: Making entries

  /// Returns the page sizes of AMD 48882, tables 14 and 15: every power of two that is less than
  /// what a table spans, except 512 GiB, which hardware translates wrongly. A table of the
  /// specification's level 6 holds no pages.
  static func possibleSizes(level: Int) -> UInt64 {
    guard level < 5 else { return 0 }
    let first = itemShift(level)
    let end = min(52, first + indexBits)
    return (1 << UInt64(end) - 1) & ~(1 << UInt64(first) - 1) & ~(1 << 39)
  }

  /// Makes a table entry with all permissions, because hardware intersects the permissions of all
  /// levels.
  static func makeTable(at address: PhysicalAddress, level: Int) -> UInt64 {
    Bits.present | Bits.read | Bits.write | field(address.rawValue)
      | UInt64(level) << Bits.nextLevelShift
  }

  static func makeLeaf(
    at address: PhysicalAddress, level: Int, shift: Int, permissions: Permissions, snoops: Bool
  ) -> UInt64 {
    var entry = Bits.present | field(address.rawValue)
    if permissions.contains(.read) { entry |= Bits.read }
    if permissions.contains(.write) { entry |= Bits.write }
    if snoops { entry |= Bits.forceCoherent }
    if shift != itemShift(level) {
      let ones = UInt64(1) << UInt64(shift - granuleShift - 1) - 1
      entry |= Bits.sizeInAddress << Bits.nextLevelShift | ones << Bits.addressShift
    }
    return entry
  }
}
