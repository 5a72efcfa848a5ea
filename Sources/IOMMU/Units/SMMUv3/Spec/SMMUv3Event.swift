// SPDX-License-Identifier: Apache-2.0

/// The reason why a transaction ends with a fault, in the terms of the event that reports it
/// (§7.3).
package struct SMMUv3Event: Hashable, Error {
  package enum Kind: UInt8, Sendable {
    /// STE.Config is abort: the transaction is aborted and no event is recorded.
    case aborted = 0x00
    /// C_BAD_STREAMID
    case badStreamID = 0x02
    /// F_STE_FETCH
    case streamFetchFailed = 0x03
    /// C_BAD_STE
    case badStreamEntry = 0x04
    /// F_BAD_ATS_TREQ
    case badTranslationRequest = 0x05
    /// F_STREAM_DISABLED
    case streamDisabled = 0x06
    /// F_TRANSL_FORBIDDEN
    case translatedForbidden = 0x07
    /// C_BAD_SUBSTREAMID
    case badSubstreamID = 0x08
    /// F_CD_FETCH
    case contextFetchFailed = 0x09
    /// C_BAD_CD
    case badContext = 0x0a
    /// F_WALK_EABT
    case walkAborted = 0x0b
    /// F_TRANSLATION
    case translation = 0x10
    /// F_ADDR_SIZE
    case addressSize = 0x11
    /// F_ACCESS
    case access = 0x12
    /// F_PERMISSION
    case permission = 0x13

    /// Whether CD.{A,R,S} and STE.{S2R,S2S} apply: the four fault events of §3.12.
    var isConfigurable: Bool { rawValue >= Self.translation.rawValue }
  }

  /// CLASS: the access that faulted.
  package enum FaultClass: UInt64, Sendable {
    /// The fetch of a context descriptor.
    case contextFetch = 0
    /// The fetch of a translation table descriptor.
    case tableWalk = 1
    /// The translation of the input address.
    case input = 2
  }

  package let kind: Kind
  /// S2: the fault occurred in stage 2.
  package var isStage2 = false
  package var faultClass = FaultClass.contextFetch
  /// IPA, for a stage 2 fault.
  package var intermediateAddress: UInt64 = 0
  /// FetchAddr: the address of the structure that could not be read.
  package var fetchAddress: UInt64 = 0
  /// TTRnW: whether the access of the table walk was a read.
  package var isTableRead = false
  /// Whether the configuration stalls the transaction. The port stalls it if the device supports
  /// stalls.
  var stalls = false
  /// STAG, if the transaction is stalled.
  package var stallTag: UInt16?

  init(_ kind: Kind) { self.kind = kind }

  /// Returns the event of a stage 1 fault for the input address of the transaction.
  static func stage1(_ kind: Kind) -> Self {
    var event = Self(kind)
    event.faultClass = .input
    return event
  }

  /// Returns the event of a stage 2 fault for an intermediate address.
  static func stage2(_ kind: Kind, _ faultClass: FaultClass, _ address: UInt64) -> Self {
    var event = Self(kind)
    event.isStage2 = true
    event.faultClass = faultClass
    event.intermediateAddress = address
    return event
  }
}

/// §7.3 Event records: 256 bits. Fields that the specification defines as UNKNOWN are 0.
package struct SMMUv3EventRecord: Hashable, Sendable {
  package var words: InlineArray<4, UInt64>

  package init(words: InlineArray<4, UInt64>) { self.words = words }

  package init(_ record: FaultRecord, _ event: SMMUv3Event) {
    words = .init(repeating: 0)
    words[7, 0] = UInt64(event.kind.rawValue)
    words[63, 32] = UInt64(record.requester.rawValue)
    setSubstream(record.pasid, event.kind)
    switch event.kind {
    case .aborted, .badStreamID, .badStreamEntry, .streamDisabled, .badSubstreamID, .badContext:
      break
    case .streamFetchFailed, .contextFetchFailed:
      words.setAddress(event.fetchAddress, 247, 195)
    case .badTranslationRequest:
      words[191, 128] = record.iova.rawValue
    case .translatedForbidden:
      words[bit: 99] = !record.writes
      words[191, 128] = record.iova.rawValue
    case .walkAborted:
      setAccess(record, event)
      words.setAddress(event.fetchAddress, 247, 195)
    case .translation, .addressSize, .access, .permission:
      setAccess(record, event)
      words.setAddress(event.intermediateAddress, 247, 204)
      if let tag = event.stallTag {
        words[79, 64] = UInt64(tag)
        words[bit: 95] = true
      }
      // TTRnW
      words[bit: 108] = event.kind == .permission && event.isTableRead
    }
  }

  /// SSV, [11], and SubstreamID, [31:12]
  private mutating func setSubstream(_ pasid: PASID?, _ kind: SMMUv3Event.Kind) {
    if kind == .streamDisabled || kind == .translatedForbidden { return }
    words[bit: 11] = pasid != nil && kind != .badSubstreamID
    words[31, 12] = UInt64(pasid?.rawValue ?? 0)
  }

  /// PnU, InD, RnW, S2, CLASS and InputAddr.
  private mutating func setAccess(_ record: FaultRecord, _ event: SMMUv3Event) {
    words[bit: 97] = record.isPrivileged
    words[bit: 98] = record.executes
    words[bit: 99] = !record.writes
    words[bit: 103] = event.isStage2
    words[105, 104] = event.faultClass.rawValue
    words[191, 128] = record.iova.rawValue
  }

  package static func == (a: Self, b: Self) -> Bool { a.words.equals(b.words) }

  package func hash(into hasher: inout Hasher) {
    for index in 0..<4 { hasher.combine(words[index]) }
  }

  /// Event number, [7:0]
  package var kind: UInt8 { UInt8(words[7, 0]) }
  /// StreamID, [63:32]
  package var stream: StreamID {
    get { StreamID(rawValue: UInt32(words[63, 32])) }
    set { words[63, 32] = UInt64(newValue.rawValue) }
  }
  /// SSV, [11], and SubstreamID, [31:12]
  package var substream: PASID? {
    words[bit: 11] ? PASID(rawValue: UInt32(words[31, 12])) : nil
  }
  /// InputAddr, [191:128]
  package var address: IOVA { IOVA(words[191, 128]) }
  /// Stall, [95]
  package var isStalled: Bool { words[bit: 95] }
  /// STAG, [79:64]
  package var stallTag: UInt16 { UInt16(words[79, 64]) }
  /// S2, [103]
  package var isStage2: Bool { words[bit: 103] }
  /// PnU, [97]
  package var isPrivileged: Bool { words[bit: 97] }
  /// InD, [98]
  package var isInstruction: Bool { words[bit: 98] }
  /// RnW, [99]
  package var isRead: Bool { words[bit: 99] }
}
