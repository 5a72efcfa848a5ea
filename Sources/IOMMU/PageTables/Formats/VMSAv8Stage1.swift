// SPDX-License-Identifier: Apache-2.0

/// Stage 1 of VMSAv8-64: permissions with and without privilege, and table descriptors that remove
/// permissions (DDI 0487 D8.4.1 Direct permissions).
enum VMSAv8Stage1<Granule: VMSAv8Granule>: VMSAv8Format {
  /// PXN.
  private static var privilegedExecuteNever: UInt64 { 1 << 53 }
  /// UXN, or XN where the regime has one privilege level.
  private static var executeNever: UInt64 { 1 << 54 }
  // The permissions that a table descriptor removes.
  /// PXNTable.
  private static var tablePXN: UInt64 { 1 << 59 }
  /// UXNTable.
  private static var tableUXN: UInt64 { 1 << 60 }
  /// APTable[0]: removes access without privilege.
  private static var tablePrivilegedOnly: UInt64 { 1 << 61 }
  /// APTable[1]: removes writes.
  private static var tableReadOnly: UInt64 { 1 << 62 }
  /// nG.
  private static var notGlobal: UInt64 { 1 << 11 }
  /// AttrIndx 1, which Linux uses for cached memory.
  private static var cached: UInt64 { 1 << 2 }

  /// Returns the bits that table descriptors have not set.
  @inline(__always)
  static func grant(_ entry: UInt64, root: TableRoot) -> UInt64 {
    root.options.contains(.ignoresHierarchicalPermissions) ? .max : ~entry
  }

  @inline(__always)
  static func permissions(_ entry: UInt64, grant: UInt64, root: TableRoot) -> Permissions {
    let writable =
      grant & tableReadOnly != 0
      && (entry & VMSAv8Bits.access1 == 0 || hasDirtyState(entry, root: root))
    let noWriteExecute = root.options.contains(.writableIsNotExecutable)
    let unprivilegedExecute = entry & executeNever == 0 && grant & tableUXN != 0
    if root.options.contains(.onePrivilege) {
      var all: Permissions = .read
      if writable { all.insert(.write) }
      if unprivilegedExecute && !(writable && noWriteExecute) { all.insert(.execute) }
      return all.forBothPrivilegeLevels
    }
    let unprivileged = entry & VMSAv8Bits.access0 != 0 && grant & tablePrivilegedOnly != 0
    var permissions: Permissions = .privilegedRead
    if writable { permissions.insert(.privilegedWrite) }
    // A page that unprivileged requests may write is execute-never for privileged requests.
    if entry & privilegedExecuteNever == 0 && grant & tablePXN != 0
      && !(writable && (unprivileged || noWriteExecute))
    {
      permissions.insert(.privilegedExecute)
    }
    if unprivileged { permissions.insert(.read) }
    if unprivileged && writable { permissions.insert(.write) }
    // Unprivileged requests may execute pages that they may not read.
    if unprivilegedExecute && !(unprivileged && writable && noWriteExecute) {
      permissions.insert(.execute)
    }
    return permissions
  }

  static func permissions(_ entry: UInt64) -> Permissions {
    entry & VMSAv8Bits.access1 == 0 ? [.read, .write] : .read
  }

  @inline(__always)
  static func settingFlags(leaf entry: UInt64, writing: Bool, root: TableRoot) -> UInt64 {
    let marked = settingAccessFlag(entry, root: root)
    return writing && hasDirtyState(entry, root: root)
      ? marked & ~VMSAv8Bits.access1 : marked
  }

  // MARK: Dirty state and making entries

  /// AP[2], which a write clears. A leaf with DBM is dirty when AP[2] is clear.
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

  /// Makes a leaf as io-pgtable-arm: arm_lpae_prot_to_pte(). A writable page has DBM, which has no
  /// effect without HD.
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
