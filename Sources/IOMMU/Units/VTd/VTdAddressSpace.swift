// SPDX-License-Identifier: Apache-2.0

/// A resolved address space: the meaning of a PASID table entry, and of the context and directory
/// entries before it, for the requests of one requester with one PASID. The PASID cache holds it.
struct VTdAddressSpace: BitwiseCopyable {
  /// PGTT
  let translationType: PASIDTableEntry.TranslationType
  let domain: DomainID
  /// The PASID of the request, or RID_PASID for requests without PASID.
  let pasid: PASID
  let requester: RequesterID
  /// The tag of the address space's translations in the IOTLB.
  let tag: IOTLBTag
  /// The highest address that can be translated. For a first stage it is the highest of all,
  /// because the walk itself checks that the address is canonical.
  let lastIOVA: IOVA
  /// FPD of the context, directory or PASID table entry.
  let suppressesFaults: Bool
  /// DTE of the context entry.
  let allowsDeviceTLB: Bool
  /// SRE: whether requests may be privileged.
  let allowsPrivilege: Bool
  // The tables are stored in as few bytes as possible because every walk copies them.
  let firstTable: PhysicalAddress
  let secondTable: PhysicalAddress
  private let secondLast: UInt64
  private let firstTop: UInt8
  private let secondTop: UInt8
  private let updatesSecondStageFlags: Bool
  private let firstOptions: WalkOptions

  /// - Parameter lastIntermediate: the highest address that the second stage translates.
  init(
    _ entry: PASIDTableEntry, _ type: PASIDTableEntry.TranslationType, requester: RequesterID,
    pasid: PASID, lastIOVA: IOVA, lastIntermediate: UInt64, suppressesFaults: Bool,
    allowsDeviceTLB: Bool
  ) {
    let hasFirstStage = type == .firstStage || type == .nested
    translationType = type
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
    // The execute-disable flag has no effect because no request may execute.
    var options: WalkOptions = []
    if entry.protectsFromPrivilege { options.insert(.writeProtect) }
    if entry.updatesExtendedAccessed { options.insert(.extendedAccessed) }
    firstOptions = options
  }

  /// The first-stage table. Hardware always updates its accessed and dirty flags.
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

  /// Whether a first stage translates the address of the request.
  @inline(__always)
  var hasFirstStage: Bool { translationType == .firstStage || translationType == .nested }
}
