// SPDX-License-Identifier: Apache-2.0

// The scopes of the TLB invalidation commands (§4.4), and the attributes that a TLB entry keeps for
// them.

/// The attributes of the leaf descriptor from which a TLB entry was made, in the twelve attribute
/// bits of an entry.
struct SMMUv3LeafAttributes {
  /// log2 of the size of the leaf, or of the run of contiguous leaves. An invalidation of any
  /// address in it removes all cached pieces of it.
  let blockShift: Int
  /// log2 of the granule of the leaf's table.
  let granuleShift: Int
  /// nG is clear: the entry matches all ASIDs, so an invalidation of any ASID removes it.
  let isGlobal: Bool
  /// Whether stage 1 does not allow writing.
  let isReadOnly: Bool

  init(blockShift: Int, granuleShift: Int, isGlobal: Bool, isReadOnly: Bool) {
    self.blockShift = blockShift
    self.granuleShift = granuleShift
    self.isGlobal = isGlobal
    self.isReadOnly = isReadOnly
  }

  /// Decodes the attribute bits of a TLB entry.
  init(_ attributes: UInt16) {
    blockShift = Int(attributes & 0x3f)
    granuleShift = Int(attributes >> 6 & 3) * 2 + 10
    isGlobal = attributes & 1 << 8 != 0
    isReadOnly = attributes & 1 << 9 != 0
  }

  /// The attribute bits for a TLB entry.
  @inline(__always)
  var attributes: UInt16 {
    UInt16(truncatingIfNeeded: blockShift & 0x3f)
      | UInt16(truncatingIfNeeded: (granuleShift &- 10) &>> 1) &<< 6
      | (isGlobal ? 1 << 8 : 0) | (isReadOnly ? 1 << 9 : 0)
  }

  /// The level of the leaf in Arm's numbering.
  var level: Int {
    let perLevel = granuleShift - 3
    return 3 - (blockShift - granuleShift) / perLevel
  }
}

/// The addresses of an invalidation by address.
struct InvalidatedRange: Equatable {
  let first: UInt64
  let last: UInt64
  /// TG, as log2 of the granule; `nil` matches tables of any granule.
  var granuleShift: Int?
  /// TTL: the level of the leaves; 0 matches any level.
  var level = 0

  /// Returns whether the leaf of a TLB entry has an address in the range.
  func intersects(_ entry: CachedTranslation) -> Bool {
    let leaf = SMMUv3LeafAttributes(entry.attributes)
    if let granuleShift, leaf.granuleShift != granuleShift { return false }
    if level != 0, leaf.level != level { return false }
    let offset = leaf.blockShift >= 64 ? UInt64.max : 1 << UInt64(leaf.blockShift) - 1
    return entry.iova.rawValue & ~offset <= last && entry.iova.rawValue | offset >= first
  }
}

/// The translations that a TLB invalidation command removes.
enum SMMUv3InvalidationScope: Equatable {
  /// CMD_TLBI_NSNH_ALL
  case everything
  /// CMD_TLBI_S12_VMALL
  case machine(vmid: UInt16)
  /// CMD_TLBI_NH_ALL
  case stage1(vmid: UInt16)
  /// CMD_TLBI_NH_ASID: does not include global entries.
  case space(vmid: UInt16, asid: UInt16)
  /// CMD_TLBI_NH_VA
  case addresses(InvalidatedRange, vmid: UInt16, asid: UInt16)
  /// CMD_TLBI_NH_VAA
  case addressesOfAll(InvalidatedRange, vmid: UInt16)
  /// CMD_TLBI_S2_IPA: does not include translations of stage 1, even those that one entry combines
  /// with stage 2.
  case intermediate(InvalidatedRange, vmid: UInt16)

  func covers(_ entry: CachedTranslation) -> Bool {
    let tag = entry.tag
    switch self {
    case .everything:
      return true
    case .machine(let vmid):
      return tag.vmid == vmid
    case .stage1(let vmid):
      return tag.vmid == vmid && tag.isStage1
    case .space(let vmid, let asid):
      return tag == IOTLBTag(vmid: vmid, asid: asid)
        && !SMMUv3LeafAttributes(entry.attributes).isGlobal
    case .addresses(let range, let vmid, let asid):
      guard tag.vmid == vmid, tag.isStage1,
        tag.asid == asid || SMMUv3LeafAttributes(entry.attributes).isGlobal
      else { return false }
      return range.intersects(entry)
    case .addressesOfAll(let range, let vmid):
      return tag.vmid == vmid && tag.isStage1 && range.intersects(entry)
    case .intermediate(let range, let vmid):
      return tag.vmid == vmid && !tag.isStage1 && range.intersects(entry)
    }
  }

  /// The key of the transactions that may hold a removed translation; `nil` when any transaction
  /// may.
  var inFlightKey: InFlightKey? {
    switch self {
    case .everything: nil
    case .machine(let vmid), .stage1(let vmid), .addressesOfAll(_, let vmid),
      .intermediate(_, let vmid):
      // With VMID 0 the key of a transaction is its ASID, which these commands do not name.
      vmid == 0 ? nil : InFlightKey(vmid: vmid, asid: 0)
    case .space(let vmid, let asid), .addresses(_, let vmid, let asid):
      InFlightKey(vmid: vmid, asid: asid)
    }
  }
}
