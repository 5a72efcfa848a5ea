// SPDX-License-Identifier: Apache-2.0

/// §4 Commands: one entry of a command queue, 128 bits.
package struct SMMUv3Command: Sendable, BitwiseCopyable, Equatable {
  package static let size = 16
  package var words: InlineArray<2, UInt64>

  package init(lower: UInt64, upper: UInt64) { words = [lower, upper] }

  fileprivate init(_ opcode: Opcode) { words = [opcode.rawValue, 0] }

  package static func == (a: Self, b: Self) -> Bool { a.words.equals(b.words) }

  /// The opcodes of a unit without EL2 and Secure state (§4.1.1).
  package enum Opcode: UInt64, Sendable {
    /// CMD_PREFETCH_CONFIG
    case prefetchConfiguration = 0x01
    /// CMD_PREFETCH_ADDR
    case prefetchAddress = 0x02
    /// CMD_CFGI_STE
    case invalidateStream = 0x03
    /// CMD_CFGI_STE_RANGE, and CMD_CFGI_ALL with Range 31
    case invalidateStreamRange = 0x04
    /// CMD_CFGI_CD
    case invalidateContext = 0x05
    /// CMD_CFGI_CD_ALL
    case invalidateAllContexts = 0x06
    /// CMD_TLBI_NH_ALL
    case tlbiAll = 0x10
    /// CMD_TLBI_NH_ASID
    case tlbiASID = 0x11
    /// CMD_TLBI_NH_VA
    case tlbiAddress = 0x12
    /// CMD_TLBI_NH_VAA
    case tlbiAddressAllASIDs = 0x13
    /// CMD_TLBI_S12_VMALL
    case tlbiStage12 = 0x28
    /// CMD_TLBI_S2_IPA
    case tlbiStage2Address = 0x2a
    /// CMD_TLBI_NSNH_ALL
    case tlbiEverything = 0x30
    /// CMD_ATC_INV
    case invalidateATC = 0x40
    /// CMD_PRI_RESP
    case respondToPageRequest = 0x41
    /// CMD_RESUME
    case resume = 0x44
    /// CMD_STALL_TERM
    case terminateStalls = 0x45
    /// CMD_SYNC
    case sync = 0x46
  }

  /// [7:0]; `nil` for an opcode that the unit does not support.
  package var opcode: Opcode? { Opcode(rawValue: words[7, 0]) }

  // MARK: Fields

  /// SSec, [10]: the command applies to a Secure stream.
  var isSecure: Bool { words[bit: 10] }
  /// SSV, [11]
  package var hasSubstream: Bool {
    get { words[bit: 11] }
    set { words[bit: 11] = newValue }
  }
  /// StreamID, [63:32]
  package var stream: StreamID {
    get { StreamID(rawValue: UInt32(words[63, 32])) }
    set { words[63, 32] = UInt64(newValue.rawValue) }
  }
  /// SubstreamID, [31:12]
  package var substream: PASID {
    get { PASID(rawValue: UInt32(words[31, 12])) }
    set { words[31, 12] = UInt64(newValue.rawValue) }
  }
  /// Leaf, [64]: the command applies to leaf entries only.
  package var isLeaf: Bool {
    get { words[bit: 64] }
    set { words[bit: 64] = newValue }
  }
  /// Range, [68:64]: the command applies to 2^(Range + 1) streams.
  var streamRange: Int { Int(words[68, 64]) }

  /// VMID, [47:32]
  package var vmid: UInt16 {
    get { UInt16(words[47, 32]) }
    set { words[47, 32] = UInt64(newValue) }
  }
  /// ASID, [63:48]
  package var asid: UInt16 {
    get { UInt16(words[63, 48]) }
    set { words[63, 48] = UInt64(newValue) }
  }
  /// Address, [127:76]
  var address: UInt64 { words.address(127, 76) }
  /// IPA, [119:76]
  var intermediateAddress: UInt64 { words.address(119, 76) }
  // §4.4.1.1 Range-based invalidation and level hint.
  /// NUM, [16:12]
  var rangeCount: UInt64 { words[16, 12] }
  /// SCALE, [24:20], without 52-bit addresses.
  var rangeScale: UInt64 { words[24, 20] }
  /// TG, [75:74]
  var granuleField: UInt64 { words[75, 74] }
  /// TTL, [73:72]
  var levelHint: Int { Int(words[73, 72]) }

  /// Size of CMD_ATC_INV, [69:64]: log2 of the number of 4 KiB pages; 52 covers all addresses.
  var pageCountShift: Int { Int(words[69, 64]) }
  /// Global, [9], of CMD_ATC_INV: the command applies to all substreams.
  var isGlobal: Bool { words[bit: 9] }

  /// The values of Resp of CMD_RESUME.
  package enum ResumeResponse: UInt64, Sendable {
    case terminate = 0
    case retry = 1
    case abort = 2
  }
  /// Resp of CMD_RESUME, [13:12]; `nil` for the reserved value.
  var resumeResponse: ResumeResponse? { ResumeResponse(rawValue: words[13, 12]) }
  /// STAG, [79:64]
  var stallTag: UInt16 { UInt16(words[79, 64]) }

  /// CS of CMD_SYNC, [13:12]: the completion signal.
  var completionSignal: UInt64 { words[13, 12] }
}

extension SMMUv3Command {
  /// Returns the guest's command with the guest's VMID and with a physical StreamID. A command with
  /// neither field is returned unchanged.
  /// - Parameter stream: returns the physical StreamID of a virtual one.
  /// - Returns: `nil` when the virtual StreamID is unknown.
  package func confined(
    toVMID vmid: UInt16, _ stream: (StreamID) -> StreamID?
  ) -> SMMUv3Command? {
    var command = self
    switch opcode {
    case .tlbiAll, .tlbiASID, .tlbiAddress, .tlbiAddressAllASIDs:
      command.vmid = vmid
    case .invalidateATC, .invalidateContext, .invalidateAllContexts:
      guard let physical = stream(self.stream) else { return nil }
      command.stream = physical
    default:
      break
    }
    return command
  }
}

/// The commands that drivers submit.
extension SMMUv3Command {
  /// CMD_CFGI_STE with Leaf.
  package static func invalidateStream(_ stream: StreamID) -> Self {
    var command = Self(.invalidateStream)
    command.stream = stream
    command.isLeaf = true
    return command
  }

  /// CMD_CFGI_ALL
  package static var invalidateAllStreams: Self {
    var command = Self(.invalidateStreamRange)
    command.words[68, 64] = 31
    return command
  }

  /// CMD_CFGI_CD
  package static func invalidateContext(
    _ stream: StreamID, substream: PASID, isLeaf: Bool
  ) -> Self {
    var command = Self(.invalidateContext)
    command.stream = stream
    command.substream = substream
    command.isLeaf = isLeaf
    return command
  }

  /// Makes a TLB invalidation command that selects translations by VMID and ASID.
  package static func tlbi(_ opcode: Opcode, asid: UInt16 = 0, vmid: UInt16 = 0) -> Self {
    var command = Self(opcode)
    command.asid = asid
    command.vmid = vmid
    return command
  }

  /// Sets the address of a command for one address in tables of any granule.
  package mutating func setAddress(_ address: UInt64, isLeaf: Bool) {
    words[1] = 0
    words[127, 76] = address >> 12
    words[bit: 64] = isLeaf
  }

  /// Sets the range of a command for 2^`scale` times `count` granules from `address` on.
  package mutating func setRange(
    _ address: UInt64, granuleShift: Int, count: UInt64, scale: UInt64, levelHint: Int,
    isLeaf: Bool
  ) {
    words[1] = 0
    words[127, 76] = address >> 12
    words[16, 12] = count - 1
    words[24, 20] = scale
    words[75, 74] = UInt64((granuleShift - 10) / 2)
    words[73, 72] = UInt64(levelHint)
    words[bit: 64] = isLeaf
  }

  /// CMD_ATC_INV
  /// - Parameter sizeShift: log2 of the size in bytes, 12 to 64. The address is aligned down to the
  ///   size.
  package static func invalidateATC(
    _ stream: StreamID, pasid: PASID?, address: IOVA, sizeShift: Int
  ) -> Self {
    var command = Self(.invalidateATC)
    command.stream = stream
    command.hasSubstream = pasid != nil
    command.substream = pasid ?? PASID(rawValue: 0)
    command.words[69, 64] = UInt64(sizeShift - 12)
    if sizeShift < 64 {
      command.words[127, 76] = (address.rawValue >> UInt64(sizeShift)) << UInt64(sizeShift - 12)
    }
    return command
  }

  /// CMD_RESUME
  package static func resume(_ stream: StreamID, tag: UInt16, _ response: ResumeResponse) -> Self {
    var command = Self(.resume)
    command.stream = stream
    command.words[13, 12] = response.rawValue
    command.words[79, 64] = UInt64(tag)
    return command
  }

  /// CMD_SYNC without a completion signal.
  package static var sync: Self { Self(.sync) }
}
