// SPDX-License-Identifier: Apache-2.0

// VT-d second-stage paging entries (Intel VT-d specification, revision 5.0, §3.7 and §9.8).
//
//   level 4: SS-PML5E   3: SS-PML4E   2: SS-PDPTE   1: SS-PDE   0: SS-PTE
//
// An entry has no present bit. It is present when it allows reads or writes.

/// Second-stage tables of VT-d.
enum VTdSecondStage: WalkableFormat {
  private static let read: UInt64 = 1 << 0
  private static let write: UInt64 = 1 << 1
  /// PS: the PDPTE or PDE maps a page.
  private static let pageSize: UInt64 = 1 << 7
  static let accessed: UInt64 = 1 << 8
  static let dirty: UInt64 = 1 << 9
  /// SNP: the access snoops processor caches even when the request does not ask for it.
  private static let snoop: UInt64 = 1 << 11
  private static let addressMask: UInt64 = 0x000f_ffff_ffff_f000

  static var granuleShift: Int { 12 }
  static var indexBits: Int { 9 }

  @inline(__always)
  static func classify(_ entry: UInt64, level: Int) -> EntryClass {
    if entry & (read | write) == 0 { return .empty }
    // PS is reserved in a PML4E or PML5E. The walker refuses it as a reserved bit of a table entry.
    return level == 0 || (entry & pageSize != 0 && level <= 2) ? .leaf : .table
  }

  @inline(__always)
  static func address(_ entry: UInt64) -> PhysicalAddress {
    PhysicalAddress(entry & addressMask)
  }

  @inline(__always)
  static func permissions(_ entry: UInt64) -> Permissions {
    Permissions(rawValue: UInt8(truncatingIfNeeded: entry & (read | write)))
  }

  @inline(__always)
  static func permissions(_ entry: UInt64, grant: UInt64, root _: TableRoot) -> Permissions {
    permissions(entry & grant)
  }

  static func makeTable(at address: PhysicalAddress, level _: Int) -> UInt64 {
    address.rawValue & addressMask | read | write
  }

  static func makeLeaf(
    at address: PhysicalAddress, level: Int, shift _: Int, permissions: Permissions, snoops: Bool
  ) -> UInt64 {
    address.rawValue & addressMask | UInt64(permissions.rawValue) & (read | write)
      | (level > 0 ? pageSize : 0) | (snoops ? snoop : 0)
  }

  /// Returns the reserved bits for a unit with these capabilities.
  /// - Parameters:
  ///   - addressBits: the host address width (HAW).
  ///   - pageSizes: bit 0: pages of 2 MiB are supported, bit 1: pages of 1 GiB (SSLPS).
  ///   - controlsSnooping: whether entries have SNP (SC).
  static func rules(addressBits: Int, pageSizes: UInt64, controlsSnooping: Bool) -> EntryRules {
    var rules = EntryRules()
    let tooWide = addressMask & ~(1 << UInt64(addressBits) - 1)
    // Bit 62 was TM. It is reserved without a device TLB.
    let common = tooWide | 1 << 62
    for level in 0..<5 {
      rules.reservedInTable[level] = common | snoop | (level > 2 ? pageSize : 0)
      var leaf = common | (controlsSnooping ? 0 : snoop)
      leaf |= addressMask & (1 << UInt64(itemShift(level)) - 1)
      if level == 1 && pageSizes & 1 == 0 || level == 2 && pageSizes & 2 == 0 { leaf |= pageSize }
      rules.reservedInLeaf[level] = leaf
    }
    return rules
  }
}
