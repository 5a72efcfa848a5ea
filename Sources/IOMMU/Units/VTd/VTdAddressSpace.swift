// What a PASID table entry, and the way to it, mean for a request: cached by requester and PASID.

struct VTdAddressSpace: BitwiseCopyable {
  let translation: PASIDTableEntry.TranslationType
  let domain: DomainID
  /// RID_PASID for requests without one.
  let pasid: PASID
  let requester: RequesterID
  /// Of its translations in the IOTLB.
  let tag: IOTLBTag
  /// The highest address that can be translated. First-stage tables say it themselves.
  let lastIOVA: UInt64
  /// FPD of the context, directory or PASID entry.
  let suppressesFaults: Bool
  /// DTE of the context entry.
  let allowsDeviceTLB: Bool
  /// SRE: requests may be privileged.
  let allowsPrivilege: Bool
  // The tables, as small as can be: every walk gets a copy.
  let firstTable: PhysicalAddress
  let secondTable: PhysicalAddress
  private let secondLast: UInt64
  private let firstTop: UInt8
  private let secondTop: UInt8
  private let updatesSecondStageFlags: Bool
  private let firstOptions: WalkOptions

  init(
    _ entry: PASIDTableEntry, _ type: PASIDTableEntry.TranslationType, requester: RequesterID,
    pasid: PASID, lastIOVA: UInt64, lastIntermediate: UInt64, suppressesFaults: Bool,
    allowsDeviceTLB: Bool
  ) {
    let hasFirstStage = type == .firstStage || type == .nested
    translation = type
    domain = entry.domain
    self.pasid = pasid
    self.requester = requester
    tag =
      hasFirstStage
      ? IOTLBTag(domain: entry.domain, pasid: pasid) : IOTLBTag(domain: entry.domain)
    self.lastIOVA = lastIOVA
    self.suppressesFaults = suppressesFaults
    self.allowsDeviceTLB = allowsDeviceTLB
    allowsPrivilege = entry.allowsPrivilege
    firstTable = entry.firstStage
    secondTable = entry.secondStage
    secondLast = lastIntermediate
    firstTop = UInt8((entry.firstStageLevels ?? 4) - 1)
    secondTop = UInt8(entry.levels - 1)
    updatesSecondStageFlags = entry.updatesSecondStageFlags
    // Execute-disable means nothing, as no request is allowed to execute.
    var options: WalkOptions = []
    if entry.protectsFromPrivilege { options.insert(.writeProtect) }
    if entry.updatesExtendedAccessed { options.insert(.extendedAccessed) }
    firstOptions = options
  }

  /// The first stage, whose flags hardware always keeps.
  var firstStage: TableRoot {
    TableRoot(
      address: firstTable, topLevel: firstStageTop, updatesFlags: true, options: firstOptions)
  }
  var firstStageTop: Int { Int(firstTop) }

  @inline(__always)
  var secondStageTop: Int { Int(secondTop) }

  @inline(__always)
  var secondStage: SecondStageTable {
    SecondStageTable(
      root: TableRoot(
        address: secondTable, topLevel: secondStageTop, updatesFlags: updatesSecondStageFlags),
      lastAddress: secondLast)
  }

  /// Whether the requester's own tables come first.
  @inline(__always)
  var hasFirstStage: Bool { translation == .firstStage || translation == .nested }
}
