// What a TLB invalidation command takes away (§4.4), and what the TLB knows of an entry for it.

/// What an entry remembers of the walk that made it, in the twelve bits a unit has for that.
struct CachedLeaf {
  /// log2 of what one leaf maps, a run of contiguous ones included: any address in it invalidates
  /// all pieces that are cached.
  let blockShift: Int
  /// log2 of the granule of its table.
  let granuleShift: Int
  /// nG is clear: the entry is good for all ASIDs, so an invalidation of any finds it.
  let isGlobal: Bool
  /// Stage 1 does not allow writing.
  let isReadOnly: Bool

  init(blockShift: Int, granuleShift: Int, isGlobal: Bool, isReadOnly: Bool) {
    self.blockShift = blockShift
    self.granuleShift = granuleShift
    self.isGlobal = isGlobal
    self.isReadOnly = isReadOnly
  }

  init(_ attributes: UInt16) {
    blockShift = Int(attributes & 0x3f)
    granuleShift = Int(attributes >> 6 & 3) * 2 + 10
    isGlobal = attributes & 1 << 8 != 0
    isReadOnly = attributes & 1 << 9 != 0
  }

  @inline(__always)
  var attributes: UInt16 {
    UInt16(truncatingIfNeeded: blockShift & 0x3f)
      | UInt16(truncatingIfNeeded: (granuleShift &- 10) &>> 1) &<< 6
      | (isGlobal ? 1 << 8 : 0) | (isReadOnly ? 1 << 9 : 0)
  }

  /// The Arm level of the leaf.
  var level: Int {
    let perLevel = granuleShift - 3
    return 3 - (blockShift - granuleShift) / perLevel
  }
}

/// The addresses of an invalidation.
struct InvalidatedRange: Equatable {
  let first: UInt64
  let last: UInt64
  /// TG, as log2; nil: tables of any granule.
  var granuleShift: Int?
  /// TTL: the level of the leaves; 0: any.
  var level = 0

  func meets(_ entry: CachedTranslation) -> Bool {
    let leaf = CachedLeaf(entry.attributes)
    if let granuleShift, leaf.granuleShift != granuleShift { return false }
    if level != 0, leaf.level != level { return false }
    let offset = leaf.blockShift >= 64 ? UInt64.max : 1 << UInt64(leaf.blockShift) - 1
    return entry.address & ~offset <= last && entry.address | offset >= first
  }
}

enum TranslationScope: Equatable {
  /// CMD_TLBI_NSNH_ALL
  case everything
  /// CMD_TLBI_S12_VMALL
  case machine(vmid: UInt16)
  /// CMD_TLBI_NH_ALL
  case stage1(vmid: UInt16)
  /// CMD_TLBI_NH_ASID: not what is global.
  case space(vmid: UInt16, asid: UInt16)
  /// CMD_TLBI_NH_VA
  case addresses(InvalidatedRange, vmid: UInt16, asid: UInt16)
  /// CMD_TLBI_NH_VAA
  case addressesOfAll(InvalidatedRange, vmid: UInt16)
  /// CMD_TLBI_S2_IPA: not what stage 1 made, even if in one entry with stage 2.
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
      return tag == IOTLBTag(vmid: vmid, asid: asid) && !CachedLeaf(entry.attributes).isGlobal
    case .addresses(let range, let vmid, let asid):
      guard tag.vmid == vmid, tag.isStage1,
        tag.asid == asid || CachedLeaf(entry.attributes).isGlobal
      else { return false }
      return range.meets(entry)
    case .addressesOfAll(let range, let vmid):
      return tag.vmid == vmid && tag.isStage1 && range.meets(entry)
    case .intermediate(let range, let vmid):
      return tag.vmid == vmid && !tag.isStage1 && range.meets(entry)
    }
  }

  /// Whose transactions may hold what is taken away; nil: anybody's.
  var gateSpace: UInt32? {
    switch self {
    case .everything: nil
    case .machine(let vmid), .stage1(let vmid), .addressesOfAll(_, let vmid),
      .intermediate(_, let vmid):
      // Without VMID the transactions are told by ASID.
      vmid == 0 ? nil : Self.gateSpace(vmid: vmid, asid: 0)
    case .space(let vmid, let asid), .addresses(_, let vmid, let asid):
      Self.gateSpace(vmid: vmid, asid: asid)
    }
  }

  /// VMID 0 is that of streams without stage 2.
  @inline(__always)
  static func gateSpace(vmid: UInt16, asid: UInt16) -> UInt32 {
    vmid == 0 ? UInt32(asid) : 1 << 16 | UInt32(vmid)
  }
}
