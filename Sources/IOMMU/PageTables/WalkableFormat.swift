// What hardware makes of an entry, beyond where it leads: who may pass, which flags it leaves behind, and
// what it refuses to read. Drivers know all of this for the entries they make; hardware meets
// entries that anybody made.
//
// Rights are accumulated along the walk as one word, `grant`: each table entry gives a word in whose
// bits 1 means "allowed so far" and all of them are intersected; the leaf turns the result into
// permissions. Which bits they are is the format's affair.

/// What the owner of a table chose for it, in registers or configuration tables.
struct WalkOptions: OptionSet, Hashable, Sendable, BitwiseCopyable {
  let rawValue: UInt32

  // x86.
  /// Requests with privilege, too, need the writable flag (VT-d: WPE; CR0.WP).
  static let writeProtect = WalkOptions(rawValue: 1 << 0)
  /// The execute-disable flag counts (VT-d: NXE; EFER.NXE).
  static let executeDisable = WalkOptions(rawValue: 1 << 1)
  /// Requests with privilege must not execute what others may access (CR4.SMEP).
  static let executeProtect = WalkOptions(rawValue: 1 << 2)
  /// The extended-accessed flag is kept, too (VT-d: EAFE).
  static let extendedAccessed = WalkOptions(rawValue: 1 << 3)

  // AMD host tables.
  /// Of the two flags hardware keeps the accessed one only (HAD: 1).
  static let accessedFlagOnly = WalkOptions(rawValue: 1 << 4)

  // Arm.
  /// Hardware sets the access flag (HA); the dirty state as well (HD).
  static let setsAccessFlag = WalkOptions(rawValue: 1 << 8)
  static let setsDirtyState = WalkOptions(rawValue: 1 << 9)
  /// A clear access flag is no fault (SMMUv3: AFFD).
  static let ignoresAccessFlag = WalkOptions(rawValue: 1 << 10)
  /// The hierarchical attributes of table entries do not count (HPD).
  static let ignoresHierarchicalPermissions = WalkOptions(rawValue: 1 << 11)
  /// Writable implies execute-never (WXN).
  static let writableIsNotExecutable = WalkOptions(rawValue: 1 << 12)
  /// The regime has no unprivileged part (EL2 without E2H, EL3): AP[1] and PXN do not count.
  static let onePrivilege = WalkOptions(rawValue: 1 << 14)
  /// Addresses have 52 bits, of which descriptors of the 4 KiB and 16 KiB granules hold the highest
  /// in place of shareability (DS), those of 64 KiB in bits [15:12] (LPA).
  static let wideAddresses = WalkOptions(rawValue: 1 << 15)
}

protocol WalkableFormat: PageTableFormat {
  /// What the hardware of this root sees in an entry.
  static func classify(_ entry: UInt64, level: Int, root: TableRoot) -> EntryClass

  /// Whether hardware refuses a present entry of a table at `level`.
  static func isMalformed(
    table entry: UInt64, for address: UInt64, level: Int, root: TableRoot,
    rules: borrowing EntryRules
  ) -> Bool
  static func isMalformed(
    leaf entry: UInt64, for address: UInt64, level: Int, root: TableRoot,
    rules: borrowing EntryRules
  ) -> Bool
  /// How it says so.
  static func malformedFault(level: Int) -> WalkFault

  /// The table that an entry names, and that table's level: lower than `level`.
  static func table(_ entry: UInt64, root: TableRoot) -> PhysicalAddress
  static func nextLevel(_ entry: UInt64, level: Int) -> Int
  /// The page that `address` is in: its first byte, and log2 of its size.
  static func page(
    _ entry: UInt64, for address: UInt64, level: Int, root: TableRoot
  ) -> (physical: PhysicalAddress, shift: Int)

  /// What a table entry leaves allowed.
  static func grant(_ entry: UInt64, root: TableRoot) -> UInt64
  /// What a leaf allows, behind tables that leave `grant`.
  static func permissions(_ entry: UInt64, grant: UInt64, root: TableRoot) -> Permissions

  /// Whether hardware must not use the leaf before software has marked it as used.
  static func isAccessFlagFault(_ entry: UInt64, root: TableRoot) -> Bool
  /// An entry after hardware has used it.
  static func settingFlags(table entry: UInt64, root: TableRoot) -> UInt64
  static func settingFlags(leaf entry: UInt64, writing: Bool, root: TableRoot) -> UInt64

  /// As a second stage: what an access asks of it, and whom its permissions are for.
  static func secondStageAccess(for access: Permissions) -> Permissions
  static func firstStageRights(of permissions: Permissions) -> Permissions

  /// Whether the top table may be larger than others, so that its index has more bits.
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

  /// Entries know only reading and writing, whoever asks, and to execute is to read.
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
