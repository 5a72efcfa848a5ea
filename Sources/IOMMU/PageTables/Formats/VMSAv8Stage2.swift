// Stage 2 of VMSAv8-64: a right to read, one to write, and who may execute (DDI 0487 D8.4.2 Stage 2
// permissions, with FEAT_XNX).

enum VMSAv8Stage2<Granule: VMSAv8Granule>: VMSAv8Format {
  /// XN[1:0], [54:53].
  private static var executeNever: UInt64 { 1 << 54 }
  private static var executeSplit: UInt64 { 1 << 53 }
  /// MemAttr: normal memory, cached; and cached whatever stage 1 says, where the stream table entry gives
  /// the field that meaning (S2FWB).
  private static var cached: UInt64 { 0xf << 2 }
  private static var forcedWriteBack: UInt64 { 0x6 << 2 }

  @inline(__always)
  static func permissions(_ entry: UInt64, grant _: UInt64, root: TableRoot) -> Permissions {
    var permissions: Permissions = []
    if entry & VMSAv8Bits.access0 != 0 { permissions.insert(.read) }
    if entry & VMSAv8Bits.access1 != 0 || keepsDirtyState(entry, root: root) {
      permissions.insert(.write)
    }
    permissions = permissions.forBothPrivilegeLevels
    // 0: everybody may execute; 1: only without privilege; 2: nobody; 3: only with privilege.
    let isNever = entry & executeNever != 0
    let isSplit = entry & executeSplit != 0
    if !isNever { permissions.insert(.execute) }
    if isNever == isSplit { permissions.insert(.privilegedExecute) }
    return permissions
  }

  static func permissions(_ entry: UInt64) -> Permissions {
    var permissions: Permissions = []
    if entry & VMSAv8Bits.access0 != 0 { permissions.insert(.read) }
    if entry & VMSAv8Bits.access1 != 0 { permissions.insert(.write) }
    return permissions
  }

  @inline(__always)
  static func settingFlags(leaf entry: UInt64, writing: Bool, root: TableRoot) -> UInt64 {
    let marked = marked(entry, root: root)
    return writing && keepsDirtyState(entry, root: root)
      ? marked | VMSAv8Bits.access1 : marked
  }

  /// Rights are those of the access, with and without privilege.
  @inline(__always)
  static func secondStageAccess(for access: Permissions) -> Permissions { access }

  @inline(__always)
  static func firstStageRights(of permissions: Permissions) -> Permissions { permissions }

  // MARK: Building

  static var dirty: UInt64 { VMSAv8Bits.access1 }

  static func isDirty(_ leaf: UInt64) -> Bool {
    leaf & VMSAv8Bits.dirtyModifier != 0 && leaf & dirty != 0
  }

  static func cleaned(_ leaf: UInt64) -> UInt64 {
    leaf & VMSAv8Bits.dirtyModifier != 0 ? leaf & ~dirty : leaf
  }

  static func dirtied(_ leaf: UInt64) -> UInt64 {
    leaf & VMSAv8Bits.dirtyModifier != 0 ? leaf | dirty : leaf
  }

  /// io-pgtable-arm: arm_lpae_prot_to_pte().
  static func makeLeaf(
    at address: PhysicalAddress, level: Int, shift _: Int, permissions: Permissions,
    snoops: Bool
  ) -> UInt64 {
    makeBareLeaf(at: address, level: level) | (snoops ? forcedWriteBack : cached)
      | (permissions.contains(.read) ? VMSAv8Bits.access0 : 0)
      | (permissions.contains(.write) ? VMSAv8Bits.access1 : 0)
  }
}
