// SPDX-License-Identifier: Apache-2.0

/// Stage 2 of VMSAv8-64: a read permission, a write permission, and execute permissions by
/// privilege level (DDI 0487 D8.4.2 Stage 2 permissions, with FEAT_XNX).
enum VMSAv8Stage2<Granule: VMSAv8Granule>: VMSAv8Format {
  /// XN[1].
  private static var executeNever: UInt64 { 1 << 54 }
  /// XN[0].
  private static var executeSplit: UInt64 { 1 << 53 }
  /// MemAttr of cached normal memory.
  private static var cached: UInt64 { 0xf << 2 }
  /// MemAttr of memory that is cached whatever stage 1 says. The field has this meaning if the
  /// stream table entry has S2FWB.
  private static var forcedWriteBack: UInt64 { 0x6 << 2 }

  @inline(__always)
  static func permissions(_ entry: UInt64, grant _: UInt64, root: TableRoot) -> Permissions {
    var permissions: Permissions = []
    if entry & VMSAv8Bits.access0 != 0 { permissions.insert(.read) }
    if entry & VMSAv8Bits.access1 != 0 || hasDirtyState(entry, root: root) {
      permissions.insert(.write)
    }
    permissions = permissions.forBothPrivilegeLevels
    // XN 0: all requests may execute. 1: only unprivileged requests. 2: none. 3: only privileged
    // requests.
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
    let marked = settingAccessFlag(entry, root: root)
    return writing && hasDirtyState(entry, root: root)
      ? marked | VMSAv8Bits.access1 : marked
  }

  // Stage 2 distinguishes privilege levels and has execute permissions, so accesses and permissions
  // are the same in both stages.

  @inline(__always)
  static func secondStageAccess(for access: Permissions) -> Permissions { access }

  @inline(__always)
  static func firstStageRights(of permissions: Permissions) -> Permissions { permissions }

  // MARK: Dirty state and making entries

  /// S2AP[1], which a write sets. A leaf with DBM is dirty when S2AP[1] is set.
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

  /// Makes a leaf as io-pgtable-arm: arm_lpae_prot_to_pte().
  static func makeLeaf(
    at address: PhysicalAddress, level: Int, shift _: Int, permissions: Permissions,
    snoops: Bool
  ) -> UInt64 {
    makeBareLeaf(at: address, level: level) | (snoops ? forcedWriteBack : cached)
      | (permissions.contains(.read) ? VMSAv8Bits.access0 : 0)
      | (permissions.contains(.write) ? VMSAv8Bits.access1 : 0)
  }
}
