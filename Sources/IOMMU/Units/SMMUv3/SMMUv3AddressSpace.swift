// SPDX-License-Identifier: Apache-2.0

/// A resolved address space: the meaning of a stream table entry and of a context descriptor for
/// the transactions of one StreamID and SubstreamID. The unit caches it.
struct SMMUv3AddressSpace: BitwiseCopyable {
  /// STE.Config, after S1DSS.
  enum TranslationType: BitwiseCopyable {
    case abort
    case bypass
    case stage1
    case stage2
    case nested
  }

  let translationType: TranslationType
  let requester: RequesterID
  /// The index of the context descriptor; `nil` when no descriptor was read.
  var descriptor: UInt32?
  var vmid: UInt16 = 0
  var asid: UInt16 = 0

  /// The tables at TTB0 and TTB1.
  var regime = VMSAv8Regime()
  /// CD.HD: hardware makes writable-clean pages dirty. A walk can then grant the write permission
  /// that the cached page does not have.
  var updatesDirtyState = false
  var stage2: VMSAv8Table?

  /// STE.EATS: whether the function may use ATS.
  var allowsATS = false

  /// CD.R and CD.S.
  var stage1Faults = FaultConfiguration()
  /// STE.S2R and STE.S2S.
  var stage2Faults = FaultConfiguration()

  /// §5.5 Fault configuration.
  struct FaultConfiguration: BitwiseCopyable {
    /// R: whether faults are recorded.
    var records = true
    /// S: whether faults stall the transaction.
    var stalls = false
  }

  init(_ translationType: TranslationType, requester: RequesterID) {
    self.translationType = translationType
    self.requester = requester
  }

  /// Whether a translation table maps the address.
  @inline(__always)
  var hasTables: Bool {
    switch translationType {
    case .abort, .bypass: false
    case .stage1, .stage2, .nested: true
    }
  }

  /// The tag of the address space's translations in the TLB (§3.17). Translations of stage 2 alone
  /// have no ASID.
  @inline(__always)
  var tag: IOTLBTag {
    translationType == .stage2
      ? IOTLBTag(vmid: vmid) : IOTLBTag(vmid: vmid, asid: asid)
  }

  /// The key by which an invalidation waits for requests to the address space.
  @inline(__always)
  var inFlightKey: InFlightKey { InFlightKey(vmid: vmid, asid: asid) }

  /// Returns the address that the tables and the TLB translate (§3.4.1). It differs from the input
  /// address when the top byte is ignored.
  @inline(__always)
  func effectiveAddress(_ iova: IOVA) -> IOVA {
    guard regime.ignoresTopByteOfLower || regime.ignoresTopByteOfUpper else { return iova }
    let address = iova.rawValue
    let topByte: UInt64 = 0xff << 56
    if address & 1 << 55 == 0 {
      return IOVA(regime.ignoresTopByteOfLower ? address & ~topByte : address)
    }
    return IOVA(regime.ignoresTopByteOfUpper ? address | topByte : address)
  }
}

extension InFlightKey {
  /// The key of an address space: its ASID when it has no stage 2 (VMID 0), as a kernel uses it;
  /// otherwise its VMID.
  @inline(__always)
  init(vmid: UInt16, asid: UInt16) {
    self.init(rawValue: vmid == 0 ? UInt32(asid) : 1 << 16 | UInt32(vmid))
  }
}

extension IOTLBTag {
  private static let stage1: UInt64 = 1 << 32

  /// The tag of a translation of stage 1, or of both stages.
  @inline(__always)
  init(vmid: UInt16, asid: UInt16) {
    // The TLB selects sets by the low bits, so the ASID, which varies most, is lowest.
    self.init(rawValue: UInt64(asid) | UInt64(vmid) << 16 | Self.stage1)
  }

  /// The tag of a translation of stage 2 alone.
  @inline(__always)
  init(vmid: UInt16) { self.init(rawValue: UInt64(vmid) << 16) }

  var vmid: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 16) }
  var asid: UInt16 { UInt16(truncatingIfNeeded: rawValue) }
  var isStage1: Bool { rawValue & Self.stage1 != 0 }
}
