// What a stream table entry and a context descriptor mean for a transaction: cached by stream and
// substream, and all that a translation needs to know of either.

struct StreamContext: BitwiseCopyable {
  enum Path: BitwiseCopyable {
    case abort
    case bypass
    case stage1
    case stage2
    case nested
  }

  let path: Path
  let stream: RequesterID
  /// Which descriptor of the stream's table this was made of; nil: none.
  var descriptor: UInt32?
  var vmid: UInt16 = 0
  var asid: UInt16 = 0

  /// TTB0 and TTB1.
  var regime = VMSAv8Regime()
  /// Writable pages become dirty by hardware (HD): a cached page without the right to write may get
  /// it by a walk.
  var updatesDirtyState = false
  var stage2: VMSAv8Table?

  /// EATS: the function may translate for itself.
  var allowsATS = false

  /// CD.R, CD.S and STE.S2R, STE.S2S.
  var stage1Faults = FaultBehaviour()
  var stage2Faults = FaultBehaviour()

  /// §5.5 Fault configuration.
  struct FaultBehaviour: BitwiseCopyable {
    var records = true
    var stalls = false
  }

  init(_ path: Path, stream: RequesterID) {
    self.path = path
    self.stream = stream
  }

  /// §3.17: how translations are tagged. Those of stage 2 alone have no ASID.
  @inline(__always)
  var tag: IOTLBTag {
    path == .stage2
      ? IOTLBTag(vmid: vmid) : IOTLBTag(vmid: vmid, asid: asid)
  }

  /// What an invalidation waits for: a kernel's address spaces are told by ASID, guests by VMID.
  @inline(__always)
  var gateSpace: UInt32 { TranslationScope.gateSpace(vmid: vmid, asid: asid) }

  /// §3.4.1: the address that tables and TLB see; differs when the top byte is ignored.
  @inline(__always)
  func effective(_ address: UInt64) -> UInt64 {
    guard regime.ignoresTopByteOfLower || regime.ignoresTopByteOfUpper else { return address }
    let topByte: UInt64 = 0xff << 56
    if address & 1 << 55 == 0 {
      return regime.ignoresTopByteOfLower ? address & ~topByte : address
    }
    return regime.ignoresTopByteOfUpper ? address | topByte : address
  }
}

extension IOTLBTag {
  private static let stage1: UInt64 = 1 << 32

  /// A translation of stage 1, or of both stages.
  @inline(__always)
  init(vmid: UInt16, asid: UInt16) {
    // What differs most is lowest, where the TLB chooses sets by it.
    self.init(rawValue: UInt64(asid) | UInt64(vmid) << 16 | Self.stage1)
  }

  /// A translation of stage 2 alone.
  @inline(__always)
  init(vmid: UInt16) { self.init(rawValue: UInt64(vmid) << 16) }

  var vmid: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 16) }
  var asid: UInt16 { UInt16(truncatingIfNeeded: rawValue) }
  var isStage1: Bool { rawValue & Self.stage1 != 0 }
}
