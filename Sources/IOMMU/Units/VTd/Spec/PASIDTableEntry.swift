/// VT-d §9.6 Scalable-Mode PASID Table Entry: how the requests with one PASID are translated.
package struct PASIDTableEntry: Equatable, Sendable {
  package static let size: UInt64 = 64
  package var words: InlineArray<8, UInt64>

  package init() { words = .init(repeating: 0) }
  package init(words: InlineArray<8, UInt64>) { self.words = words }

  package static func offset(of pasid: PASID) -> UInt64 { UInt64(pasid.rawValue & 63) * size }

  package static func == (a: Self, b: Self) -> Bool {
    (0..<8).allSatisfy { a.words[$0] == b.words[$0] }
  }

  /// PGTT
  package enum TranslationType: UInt64, Sendable, BitwiseCopyable {
    case firstStage = 1
    case secondStage = 2
    case nested = 3
    case passThrough = 4
  }

  private static let pointerMask: UInt64 = ~0xfff

  /// P, [0]
  package var isPresent: Bool {
    get { words[0] & 1 != 0 }
    set { words[0] = words[0] & ~1 | (newValue ? 1 : 0) }
  }
  /// FPD, [1]
  package var disablesFaults: Bool {
    get { words[0] & 2 != 0 }
    set { words[0] = words[0] & ~2 | (newValue ? 2 : 0) }
  }
  /// AW, [4:2]: 1 for 3 levels, 2 for 4, 3 for 5.
  package var levels: Int {
    get { Int(words[0] >> 2 & 7) + 2 }
    set { words[0] = words[0] & ~(7 << 2) | (UInt64(max(newValue, 2) - 2) & 7) << 2 }
  }
  /// PGTT, [8:6]; nil for values without meaning.
  package var type: TranslationType? {
    get { TranslationType(rawValue: words[0] >> 6 & 7) }
    set { words[0] = words[0] & ~(7 << 6) | (newValue?.rawValue ?? 0) << 6 }
  }
  /// SSADE, [9]
  package var updatesSecondStageFlags: Bool {
    get { words[0] & 1 << 9 != 0 }
    set { words[0] = words[0] & ~(1 << 9) | (newValue ? 1 << 9 : 0) }
  }
  /// SSPTPTR, [63:12]
  package var secondStage: PhysicalAddress {
    get { PhysicalAddress(words[0] & Self.pointerMask) }
    set { words[0] = words[0] & ~Self.pointerMask | newValue.rawValue & Self.pointerMask }
  }
  /// DID, [79:64]
  package var domain: DomainID {
    get { DomainID(rawValue: UInt16(truncatingIfNeeded: words[1])) }
    set { words[1] = words[1] & ~0xffff | UInt64(newValue.rawValue) }
  }
  /// PWSNP, [87]
  package var snoopsWalks: Bool {
    get { words[1] & 1 << 23 != 0 }
    set { words[1] = words[1] & ~(1 << 23) | (newValue ? 1 << 23 : 0) }
  }
  /// PGSNP, [88]
  package var snoopsPages: Bool {
    get { words[1] & 1 << 24 != 0 }
    set { words[1] = words[1] & ~(1 << 24) | (newValue ? 1 << 24 : 0) }
  }

  /// SRE, [128]
  package var allowsPrivilege: Bool {
    get { words[2] & 1 != 0 }
    set { words[2] = words[2] & ~1 | (newValue ? 1 : 0) }
  }
  /// FSPM, [131:130]: 0 for 4 levels of the first stage, 1 for 5; nil for values without meaning.
  package var firstStageLevels: Int? {
    get {
      let mode = Int(words[2] >> 2 & 3)
      return mode <= 1 ? mode + 4 : nil
    }
    set { words[2] = words[2] & ~(3 << 2) | (newValue == 5 ? 1 << 2 : 0) }
  }
  /// WPE, [132]: privilege does not write where the table says read-only.
  package var protectsFromPrivilege: Bool {
    get { words[2] & 1 << 4 != 0 }
    set { words[2] = words[2] & ~(1 << 4) | (newValue ? 1 << 4 : 0) }
  }
  /// EAFE, [135]
  package var updatesExtendedAccessed: Bool {
    get { words[2] & 1 << 7 != 0 }
    set { words[2] = words[2] & ~(1 << 7) | (newValue ? 1 << 7 : 0) }
  }
  /// FSPTPTR, [191:140]
  package var firstStage: PhysicalAddress {
    get { PhysicalAddress(words[2] & Self.pointerMask) }
    set { words[2] = words[2] & ~Self.pointerMask | newValue.rawValue & Self.pointerMask }
  }

  /// Whether a bit is set that a unit with these capabilities wants clear: what the specification
  /// reserves, addresses beyond the host's, memory types (which no unit here has), and the first
  /// stage's part as far as the unit lacks it.
  func hasReservedBits(addressBits: Int, _ capabilities: VTdCapabilities) -> Bool {
    let beyond = ~(1 << UInt64(addressBits) - 1) as UInt64
    var firstStage: UInt64 = 0xf02
    if !capabilities.firstStage { firstStage |= ~0x60 }
    if !capabilities.privilegedRequests { firstStage |= 1 << 0 }
    if !capabilities.extendedAccessedFlag { firstStage |= 1 << 7 }
    // The table is the guest's when nested, and its address checked by the second stage.
    if type != .nested { firstStage |= beyond }
    return words[0] & (0xc20 | beyond) != 0 || words[1] & 0xffff_ffff_fe7f_0000 != 0
      || words[2] & firstStage != 0 || (3..<8).contains { words[$0] != 0 }
  }
}
