// SPDX-License-Identifier: Apache-2.0

// The page tables of x86-64 processors, which IOMMUs walk as VT-d first-stage tables (Intel VT-d
// specification, revision 5.0, §3.6 and §9.7) and as AMD guest tables (AMD 48882, revision 3.10,
// §2.2.4 "Guest and Nested Address Translation"; AMD64 Architecture Programmer's Manual, volume 2,
// §5.3).
//
//   level 4: PML5E   3: PML4E   2: PDPE   1: PDE   0: PTE
//
// A page that is present may be read. The other rights are those that the entries of all levels
// give. The table's owner chooses whether execute-disable is a reserved bit
// (`TableRoot.forbidden`), has effect (`WalkOptions.executeDisable`), or is ignored.

/// The format of VT-d and AMD, which differ only in the extended-accessed flag.
protocol X86Format: WalkableFormat {
  /// Returns the bits that hardware sets in every entry that it uses.
  static func accessedFlags(_ root: TableRoot) -> UInt64
}

/// First-stage tables of VT-d.
enum VTdFirstStage: X86Format {
  /// EA: as A, for tables that processors and devices share (VT-d §9.7, with EAFE).
  private static let extendedAccessed: UInt64 = 1 << 10

  @inline(__always)
  static func accessedFlags(_ root: TableRoot) -> UInt64 {
    accessed | (root.options.contains(.extendedAccessed) ? extendedAccessed : 0)
  }
}

/// Guest tables of AMD-Vi.
enum AMDGuest: X86Format {
  @inline(__always)
  static func accessedFlags(_: TableRoot) -> UInt64 { accessed }
}

private enum Bits {
  static let present: UInt64 = 1 << 0
  static let write: UInt64 = 1 << 1
  static let user: UInt64 = 1 << 2
  static let pageSize: UInt64 = 1 << 7
  static let executeDisable: UInt64 = 1 << 63
  static let addressMask: UInt64 = 0x000f_ffff_ffff_f000
  /// PAT of a large page. This is the lowest address bit of a small page.
  static let largePAT: UInt64 = 1 << 12
}

extension X86Format {
  static var granuleShift: Int { 12 }
  static var indexBits: Int { 9 }
  static var accessed: UInt64 { 1 << 5 }
  static var dirty: UInt64 { 1 << 6 }
  static var executeDisable: UInt64 { Bits.executeDisable }

  @inline(__always)
  static func classify(_ entry: UInt64, level: Int) -> EntryClass {
    if entry & Bits.present == 0 { return .empty }
    // PS is reserved in a PML4E or PML5E. The walker refuses it as a reserved bit of a table entry.
    return level == 0 || (entry & Bits.pageSize != 0 && level <= 2) ? .leaf : .table
  }

  @inline(__always)
  static func address(_ entry: UInt64) -> PhysicalAddress {
    PhysicalAddress(entry & Bits.addressMask)
  }

  @inline(__always)
  static func page(
    _ entry: UInt64, for _: UInt64, level: Int, root _: TableRoot
  ) -> (physical: PhysicalAddress, shift: Int) {
    let shift = itemShift(level)
    let offset = 1 &<< UInt64(truncatingIfNeeded: shift) &- 1
    return (PhysicalAddress(entry & Bits.addressMask & ~offset), shift)
  }

  // MARK: Rights

  /// Returns R/W, U/S, and the complement of XD.
  @inline(__always)
  static func grant(_ entry: UInt64, root _: TableRoot) -> UInt64 { entry ^ Bits.executeDisable }

  /// Returns the permissions by VT-d §3.6.1 Access Rights and APM volume 2 §5.6 Page-Protection
  /// Checks.
  @inline(__always)
  static func permissions(_ entry: UInt64, grant: UInt64, root: TableRoot) -> Permissions {
    let granted = grant & (entry ^ Bits.executeDisable)
    let writable = granted & Bits.write != 0
    let executable =
      granted & Bits.executeDisable != 0 || !root.options.contains(.executeDisable)
    let user = granted & Bits.user != 0
    var permissions: Permissions = .privilegedRead
    if writable || !root.options.contains(.writeProtect) {
      permissions.insert(.privilegedWrite)
    }
    if executable && !(user && root.options.contains(.executeProtect)) {
      permissions.insert(.privilegedExecute)
    }
    if user {
      permissions.insert(.read)
      if writable { permissions.insert(.write) }
      if executable { permissions.insert(.execute) }
    }
    return permissions
  }

  @inline(__always)
  static func permissions(_ entry: UInt64) -> Permissions {
    var permissions: Permissions = .read
    if entry & Bits.write != 0 { permissions.insert(.write) }
    return permissions
  }

  // MARK: Flags

  @inline(__always)
  static func settingFlags(table entry: UInt64, root: TableRoot) -> UInt64 {
    root.updatesFlags ? entry | accessedFlags(root) : entry
  }

  @inline(__always)
  static func settingFlags(leaf entry: UInt64, writing: Bool, root: TableRoot) -> UInt64 {
    guard root.updatesFlags else { return entry }
    return entry | accessedFlags(root) | (writing ? dirty : 0)
  }

  // MARK: Reserved bits and addresses

  @inline(__always)
  static func isMalformed(
    table entry: UInt64, for _: UInt64, level: Int, root: TableRoot,
    rules: borrowing EntryRules
  ) -> Bool {
    // SAFETY: a level is at most 4.
    entry & (rules.reservedInTable[unchecked: level] | root.forbidden) != 0
  }

  @inline(__always)
  static func isMalformed(
    leaf entry: UInt64, for _: UInt64, level: Int, root: TableRoot,
    rules: borrowing EntryRules
  ) -> Bool {
    entry & (rules.reservedInLeaf[unchecked: level] | root.forbidden) != 0
  }

  /// Returns the reserved bits for a unit with these capabilities.
  /// - Parameters:
  ///   - addressBits: the host address width (VT-d: HAW).
  ///   - has1GPages: whether the unit supports pages of 1 GiB (VT-d: FS1GP). AMD units always do.
  static func rules(addressBits: Int, has1GPages: Bool) -> EntryRules {
    var rules = EntryRules()
    let tooWide = Bits.addressMask & ~(1 << UInt64(addressBits) - 1)
    for level in 0..<5 {
      rules.reservedInTable[level] = tooWide | (level > 2 ? Bits.pageSize : 0)
      var leaf = tooWide
      if level > 0 {
        leaf |= Bits.addressMask & (1 << UInt64(itemShift(level)) - 1) & ~Bits.largePAT
      }
      if level == 2 && !has1GPages { leaf |= Bits.pageSize }
      rules.reservedInLeaf[level] = leaf
    }
    return rules
  }

  /// Returns the part of an address that a table translates.
  /// - Returns: `nil` when the address is not canonical, that is when the bits above that part are
  ///   not copies of its highest bit (VT-d §3.6 First-Stage Translation).
  @inline(__always)
  static func input(_ address: UInt64, topLevel: Int) -> UInt64? {
    let unused = UInt64(truncatingIfNeeded: 64 &- tableShift(topLevel))
    let extended = UInt64(bitPattern: Int64(bitPattern: address &<< unused) &>> Int64(unused))
    return extended == address ? (address &<< unused) &>> unused : nil
  }

  // MARK: Making entries

  /// Makes a table entry as generic_pt: x86_64_pt_install_table().
  static func makeTable(at address: PhysicalAddress, level _: Int) -> UInt64 {
    address.rawValue & Bits.addressMask | Bits.present | Bits.write | Bits.user | accessed
  }

  /// Makes a leaf as generic_pt: x86_64_pt_iommu_set_prot(). The accessed flag is set in advance,
  /// and in a writable page the dirty flag. A page that may be written may also be read.
  static func makeLeaf(
    at address: PhysicalAddress, level: Int, shift _: Int, permissions: Permissions, snoops _: Bool
  ) -> UInt64 {
    address.rawValue & Bits.addressMask | Bits.present | Bits.user | accessed
      | (permissions.contains(.write) ? Bits.write | dirty : 0)
      | (level > 0 ? Bits.pageSize : 0)
  }

  static func possibleSizes(level: Int) -> UInt64 {
    level <= 2 ? 1 << UInt64(itemShift(level)) : 0
  }
}
