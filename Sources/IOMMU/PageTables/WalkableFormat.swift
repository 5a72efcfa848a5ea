// SPDX-License-Identifier: Apache-2.0

// How hardware interprets an entry: which accesses it allows, which flags hardware sets in it, and
// which entries hardware refuses. A driver knows the entries that it makes, but hardware reads
// entries that any software made.
//
// The rights of the entries on a walk are accumulated in one word, the grant. Each table entry
// gives a word in which a set bit means "still allowed", the walk intersects these words, and the
// leaf turns the result into permissions. The format defines the meaning of the bits.

/// The choices that registers or configuration tables make for one page table.
struct WalkOptions: OptionSet, Hashable, Sendable, BitwiseCopyable {
  let rawValue: UInt32

  // x86.
  /// Privileged requests need the writable flag, too (VT-d: WPE; CR0.WP).
  static let writeProtect = WalkOptions(rawValue: 1 << 0)
  /// The execute-disable flag has effect (VT-d: NXE; EFER.NXE).
  static let executeDisable = WalkOptions(rawValue: 1 << 1)
  /// Privileged requests must not execute user pages (CR4.SMEP).
  static let executeProtect = WalkOptions(rawValue: 1 << 2)
  /// Hardware also sets the extended-accessed flag (VT-d: EAFE).
  static let extendedAccessed = WalkOptions(rawValue: 1 << 3)

  // AMD host tables.
  /// Hardware sets the accessed flag but not the dirty flag (HAD: 1).
  static let accessedFlagOnly = WalkOptions(rawValue: 1 << 4)

  // Arm.
  /// Hardware sets the Access flag (HA).
  static let setsAccessFlag = WalkOptions(rawValue: 1 << 8)
  /// Hardware also maintains the dirty state (HD).
  static let setsDirtyState = WalkOptions(rawValue: 1 << 9)
  /// A clear Access flag causes no fault (SMMUv3: AFFD).
  static let ignoresAccessFlag = WalkOptions(rawValue: 1 << 10)
  /// The permissions in table descriptors have no effect (HPD).
  static let ignoresHierarchicalPermissions = WalkOptions(rawValue: 1 << 11)
  /// A writable page is execute-never (WXN).
  static let writableIsNotExecutable = WalkOptions(rawValue: 1 << 12)
  /// The translation regime has one privilege level (EL2 without E2H, EL3): AP[1] and PXN have no
  /// effect.
  static let onePrivilege = WalkOptions(rawValue: 1 << 14)
  /// Addresses have 52 bits. Descriptors of the 4 KiB and 16 KiB granules hold the highest bits in
  /// place of shareability (DS), those of 64 KiB in bits [15:12] (LPA).
  static let wideAddresses = WalkOptions(rawValue: 1 << 15)
}

/// A format as hardware walks it.
protocol WalkableFormat: PageTableFormat {
  /// Returns the class of an entry for the hardware of this root.
  static func classify(_ entry: UInt64, level: Int, root: TableRoot) -> EntryClass

  /// Returns whether hardware refuses a present table entry in a table at `level`.
  static func isMalformed(
    table entry: UInt64, for address: UInt64, level: Int, root: TableRoot,
    rules: borrowing EntryRules
  ) -> Bool
  /// Returns whether hardware refuses a present leaf in a table at `level`.
  static func isMalformed(
    leaf entry: UInt64, for address: UInt64, level: Int, root: TableRoot,
    rules: borrowing EntryRules
  ) -> Bool
  /// Returns the fault for an entry that hardware refuses.
  static func malformedFault(level: Int) -> WalkFault

  /// Returns the table that a table entry refers to.
  static func table(_ entry: UInt64, root: TableRoot) -> PhysicalAddress
  /// Returns the level of the table that a table entry refers to: lower than `level`.
  static func nextLevel(_ entry: UInt64, level: Int) -> Int
  /// Returns the page that a leaf maps and that contains `address`: its first byte, and log2 of its
  /// size.
  static func page(
    _ entry: UInt64, for address: UInt64, level: Int, root: TableRoot
  ) -> (physical: PhysicalAddress, shift: Int)

  /// Returns the rights that a table entry leaves, in the format's own bits.
  static func grant(_ entry: UInt64, root: TableRoot) -> UInt64
  /// Returns the permissions that a leaf gives below tables that leave `grant`.
  static func permissions(_ entry: UInt64, grant: UInt64, root: TableRoot) -> Permissions

  /// Returns whether the leaf causes a fault because its Access flag is clear and only software
  /// sets the flag.
  static func isAccessFlagFault(_ entry: UInt64, root: TableRoot) -> Bool
  /// Returns a table entry with the flags that hardware sets when it uses the entry.
  static func settingFlags(table entry: UInt64, root: TableRoot) -> UInt64
  /// Returns a leaf with the flags that hardware sets when it uses the leaf.
  static func settingFlags(leaf entry: UInt64, writing: Bool, root: TableRoot) -> UInt64

  /// Returns the permissions that an access needs in a second stage of this format.
  static func secondStageAccess(for access: Permissions) -> Permissions
  /// Returns the accesses that a second stage of this format allows, given the permissions of its
  /// leaf.
  static func firstStageRights(of permissions: Permissions) -> Permissions

  /// Whether the size of the top table varies, so that its index can have more or fewer bits than
  /// the index of other tables.
  static var hasVariableTopTable: Bool { get }
}

extension WalkableFormat {
  @inline(__always)
  static func classify(_ entry: UInt64, level: Int, root _: TableRoot) -> EntryClass {
    classify(entry, level: level)
  }

  @inline(__always)
  static func isMalformed(
    table entry: UInt64, for _: UInt64, level: Int, root _: TableRoot,
    rules: borrowing EntryRules
  ) -> Bool {
    // SAFETY: a level is at most 5.
    entry & rules.reservedInTable[unchecked: level] != 0
  }

  @inline(__always)
  static func isMalformed(
    leaf entry: UInt64, for _: UInt64, level: Int, root _: TableRoot,
    rules: borrowing EntryRules
  ) -> Bool {
    entry & rules.reservedInLeaf[unchecked: level] != 0
  }

  @inline(__always)
  static func malformedFault(level: Int) -> WalkFault { .reserved(level: level) }

  @inline(__always)
  static func table(_ entry: UInt64, root _: TableRoot) -> PhysicalAddress { address(entry) }

  @inline(__always)
  static func nextLevel(_: UInt64, level: Int) -> Int { level &- 1 }

  @inline(__always)
  static func page(
    _ entry: UInt64, for _: UInt64, level: Int, root _: TableRoot
  ) -> (physical: PhysicalAddress, shift: Int) {
    (address(entry), leafShift(entry, level: level))
  }

  @inline(__always)
  static func grant(_ entry: UInt64, root _: TableRoot) -> UInt64 { entry }

  @inline(__always)
  static func isAccessFlagFault(_: UInt64, root _: TableRoot) -> Bool { false }

  @inline(__always)
  static func settingFlags(table entry: UInt64, root: TableRoot) -> UInt64 {
    root.updatesFlags ? entry | accessed : entry
  }

  @inline(__always)
  static func settingFlags(leaf entry: UInt64, writing: Bool, root: TableRoot) -> UInt64 {
    guard root.updatesFlags else { return entry }
    return entry | accessed | (writing ? dirty : 0)
  }

  // The defaults are for formats without privilege levels and without an execute permission: both
  // permissions hold for privileged and unprivileged requests, and an execute request is a read.

  @inline(__always)
  static func secondStageAccess(for access: Permissions) -> Permissions {
    var demand = access.unprivileged
    if demand.contains(.execute) {
      demand.remove(.execute)
      demand.insert(.read)
    }
    return demand
  }

  @inline(__always)
  static func firstStageRights(of permissions: Permissions) -> Permissions {
    var rights = permissions
    if rights.contains(.read) { rights.insert(.execute) }
    return rights.forBothPrivilegeLevels
  }

  @inline(__always)
  static var hasVariableTopTable: Bool { false }
}
