// Stage 1 of VMSAv8-64: rights with and without privilege, and tables that take rights away
// (DDI 0487 D8.4.1 Direct permissions).

enum VMSAv8Stage1<Granule: VMSAv8Granule>: VMSAv8Format {
  private static var privilegedExecuteNever: UInt64 { 1 << 53 }
  private static var executeNever: UInt64 { 1 << 54 }
  /// What table descriptors take away: PXNTable, UXNTable, APTable[0] (access without privilege) and
  /// APTable[1] (writing).
  private static var tablePXN: UInt64 { 1 << 59 }
  private static var tableUXN: UInt64 { 1 << 60 }
  private static var tablePrivilegedOnly: UInt64 { 1 << 61 }
  private static var tableReadOnly: UInt64 { 1 << 62 }
  private static var notGlobal: UInt64 { 1 << 11 }
  /// AttrIndx 1, which Linux gives to memory that is cached.
  private static var cached: UInt64 { 1 << 2 }

  /// Bits that tables have not set.
  @inline(__always)
  static func grant(_ entry: UInt64, root: TableRoot) -> UInt64 {
    root.options.contains(.ignoresHierarchicalPermissions) ? .max : ~entry
  }

  @inline(__always)
  static func permissions(_ entry: UInt64, grant: UInt64, root: TableRoot) -> Permissions {
    let writable =
      grant & tableReadOnly != 0
      && (entry & VMSAv8Bits.access1 == 0 || keepsDirtyState(entry, root: root))
    let noWriteExecute = root.options.contains(.writableIsNotExecutable)
    let unprivilegedExecute = entry & executeNever == 0 && grant & tableUXN != 0
    if root.options.contains(.onePrivilege) {
      var all: Permissions = .read
      if writable { all.insert(.write) }
      if unprivilegedExecute && !(writable && noWriteExecute) { all.insert(.execute) }
      return all.forBothPrivilegeLevels
    }
    let everybody = entry & VMSAv8Bits.access0 != 0 && grant & tablePrivilegedOnly != 0
    var permissions: Permissions = .privilegedRead
    if writable { permissions.insert(.privilegedWrite) }
    // What may be written without privilege may not be executed with it.
    if entry & privilegedExecuteNever == 0 && grant & tablePXN != 0
      && !(writable && (everybody || noWriteExecute))
    {
      permissions.insert(.privilegedExecute)
    }
    if everybody { permissions.insert(.read) }
    if everybody && writable { permissions.insert(.write) }
    // Execute rights without privilege need no right to read.
    if unprivilegedExecute && !(everybody && writable && noWriteExecute) {
      permissions.insert(.execute)
    }
    return permissions
  }

  static func permissions(_ entry: UInt64) -> Permissions {
    entry & VMSAv8Bits.access1 == 0 ? [.read, .write] : .read
  }

  @inline(__always)
  static func settingFlags(leaf entry: UInt64, writing: Bool, root: TableRoot) -> UInt64 {
    let marked = marked(entry, root: root)
    return writing && keepsDirtyState(entry, root: root)
      ? marked & ~VMSAv8Bits.access1 : marked
  }

  // MARK: Building

  /// What a write changes: writable with DBM is dirty.
  static var dirty: UInt64 { VMSAv8Bits.access1 }

  static func isDirty(_ leaf: UInt64) -> Bool {
    leaf & VMSAv8Bits.dirtyModifier != 0 && leaf & dirty == 0
  }

  static func cleaned(_ leaf: UInt64) -> UInt64 {
    leaf & VMSAv8Bits.dirtyModifier != 0 ? leaf | dirty : leaf
  }

  static func dirtied(_ leaf: UInt64) -> UInt64 {
    leaf & VMSAv8Bits.dirtyModifier != 0 ? leaf & ~dirty : leaf
  }

  /// io-pgtable-arm: arm_lpae_prot_to_pte(). DBM goes with writable; without HD it means nothing.
  static func makeLeaf(
    at address: PhysicalAddress, level: Int, shift _: Int, permissions: Permissions,
    snoops _: Bool
  ) -> UInt64 {
    let access =
      permissions.contains(.write) ? VMSAv8Bits.dirtyModifier : VMSAv8Bits.access1
    return makeBareLeaf(at: address, level: level) | notGlobal | cached | access
      | VMSAv8Bits.access0
  }
}
