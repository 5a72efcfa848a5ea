// AMD host page-table entries (AMD 48882, revision 3.10, §2.2.3 "I/O Page Tables for Host
// Translations").
//
//   level 0 is the specification's level 1 (its "mode 1"), and so on upwards.
//
// An entry says by its next-level field what it is: 0 a page of the size of the level, 7 a page of
// another size, otherwise a table. The size behind a 7 is in the address: the page is twice as large as the
// run of ones in the lowest address bits says, so every power of two can be had, and all entries that the
// page spans hold the same value. A table entry may skip levels: then the address has zeros where
// the skipped tables would be indexed.
//
// The kernel's mock unit uses the same entries with pages of 2 KiB, half of a system page: what is
// 12 bits for AMD is 11 there, and addresses are stored one bit further to the left.

/// What AMD's format and the mock unit's share: all but the granule.
protocol AMDv1Format: WalkableFormat {}

/// The host tables of AMD-Vi.
enum AMDv1: AMDv1Format {
  static var granuleShift: Int { 12 }
}

/// The tables of the mock unit.
enum AMDv1Mock: AMDv1Format {
  static var granuleShift: Int { 11 }
}

/// The bits of an entry, and the shifts of its fields.
private enum Bits {
  static let present: UInt64 = 1 << 0
  static let accessed: UInt64 = 1 << 5
  static let dirty: UInt64 = 1 << 6
  static let nextLevelShift: UInt64 = 9
  /// FC: DMA is coherent whatever the request says.
  static let forceCoherent: UInt64 = 1 << 60
  static let read: UInt64 = 1 << 61
  static let write: UInt64 = 1 << 62
  static let addressMask: UInt64 = 0x000f_ffff_ffff_f000
  static let addressShift: UInt64 = 12
  static let sizeInAddress: UInt64 = 7
}

extension AMDv1Format {
  static var indexBits: Int { 9 }
  static var accessed: UInt64 { Bits.accessed }
  static var dirty: UInt64 { Bits.dirty }

  @inline(__always)
  private static func nextLevel(_ entry: UInt64) -> UInt64 { entry &>> Bits.nextLevelShift & 7 }

  /// The address field, in granules.
  @inline(__always)
  private static func number(_ entry: UInt64) -> UInt64 {
    (entry & Bits.addressMask) &>> Bits.addressShift
  }

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
    // The run of ones, and the zero above it, say the size.
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

  // MARK: What hardware makes of any entry

  @inline(__always)
  static func settingFlags(leaf entry: UInt64, writing: Bool, root: TableRoot) -> UInt64 {
    guard root.updatesFlags else { return entry }
    let marksWriting = writing && !root.options.contains(.accessedFlagOnly)
    return entry | accessed | (marksWriting ? dirty : 0)
  }

  @inline(__always)
  static func nextLevel(_ entry: UInt64, level _: Int) -> Int {
    Int(truncatingIfNeeded: nextLevel(entry)) &- 1
  }

  /// A table is of a lower level, and the bits that a skipped level would use are zero.
  @inline(__always)
  static func isMalformed(
    table entry: UInt64, for address: UInt64, level: Int, root _: TableRoot,
    rules: borrowing EntryRules
  ) -> Bool {
    // 1 to 6: with 0 or 7 it would be a leaf.
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

  /// A page is of a size that its level has.
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

  /// Whether a reserved bit is why an entry is refused; otherwise its levels or its size are.
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

  /// What hardware rejects: [58:52] of pages, [60:52] of tables, and addresses that are too wide.
  static func rules(addressBits: Int) -> EntryRules {
    var rules = EntryRules()
    let beyond = Bits.addressMask & ~field(1 << UInt64(addressBits) - 1)
    for level in 0..<6 {
      rules.reservedInTable[level] = beyond | 0x1ff << 52
      rules.reservedInLeaf[level] = beyond | 0x7f << 52
    }
    return rules
  }

  /// Tables 14 and 15: every power of two that is less than a whole table, but not 512 GiB, which
  /// hardware gets wrong; and no page in a table of level 6.
  static func possibleSizes(level: Int) -> UInt64 {
    guard level < 5 else { return 0 }
    let first = itemShift(level)
    let end = min(52, first + indexBits)
    return (1 << UInt64(end) - 1) & ~(1 << UInt64(first) - 1) & ~(1 << 39)
  }

  /// The permissions of all levels are intersected; those of the leaf decide.
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
