// SPDX-License-Identifier: Apache-2.0

/// VT-d §9.6 Scalable-Mode PASID Table Entry: the translation of the requests with one PASID.
package struct PASIDTableEntry: Equatable, Sendable {
  package static let size: UInt64 = 64
  package var words: InlineArray<8, UInt64>

  package init() { words = .init(repeating: 0) }
  package init(words: InlineArray<8, UInt64>) { self.words = words }

  package static func offset(of pasid: PASID) -> UInt64 { UInt64(pasid.rawValue & 63) * size }

  package static func == (a: Self, b: Self) -> Bool { a.words.equals(b.words) }

  /// The values of PGTT.
  package enum TranslationType: UInt64, Sendable, BitwiseCopyable {
    case firstStage = 1
    case secondStage = 2
    case nested = 3
    case passThrough = 4
  }

  /// P, [0]
  package var isPresent: Bool {
    get { words[bit: 0] }
    set { words[bit: 0] = newValue }
  }
  /// FPD, [1]: qualified faults are not recorded.
  package var disablesFaults: Bool {
    get { words[bit: 1] }
    set { words[bit: 1] = newValue }
  }
  /// AW, [4:2], as the number of levels of the second stage: 1 is 3 levels, 2 is 4, 3 is 5.
  package var levels: Int {
    get { Int(words[4, 2]) + 2 }
    set { words[4, 2] = UInt64(max(newValue, 2) - 2) }
  }
  /// PGTT, [8:6]; `nil` for a reserved value.
  package var type: TranslationType? {
    get { TranslationType(rawValue: words[8, 6]) }
    set { words[8, 6] = newValue?.rawValue ?? 0 }
  }
  /// SSADE, [9]
  package var updatesSecondStageFlags: Bool {
    get { words[bit: 9] }
    set { words[bit: 9] = newValue }
  }
  /// SSPTPTR, [63:12]
  package var secondStage: PhysicalAddress {
    get { PhysicalAddress(words.address(63, 12)) }
    set { words.setAddress(newValue.rawValue, 63, 12) }
  }
  /// DID, [79:64]
  package var domain: DomainID {
    get { DomainID(rawValue: UInt16(words[79, 64])) }
    set { words[79, 64] = UInt64(newValue.rawValue) }
  }
  /// PWSNP, [87]
  package var snoopsWalks: Bool {
    get { words[bit: 87] }
    set { words[bit: 87] = newValue }
  }
  /// PGSNP, [88]
  package var snoopsPages: Bool {
    get { words[bit: 88] }
    set { words[bit: 88] = newValue }
  }

  /// SRE, [128]
  package var allowsPrivilege: Bool {
    get { words[bit: 128] }
    set { words[bit: 128] = newValue }
  }
  /// FSPM, [131:130], as the number of levels of the first stage: 0 is 4 levels, 1 is 5. `nil` for
  /// a reserved value.
  package var firstStageLevels: Int? {
    get {
      let mode = Int(words[131, 130])
      return mode <= 1 ? mode + 4 : nil
    }
    set { words[131, 130] = newValue == 5 ? 1 : 0 }
  }
  /// WPE, [132]: privileged requests, too, cannot write read-only pages.
  package var protectsFromPrivilege: Bool {
    get { words[bit: 132] }
    set { words[bit: 132] = newValue }
  }
  /// EAFE, [135]
  package var updatesExtendedAccessed: Bool {
    get { words[bit: 135] }
    set { words[bit: 135] = newValue }
  }
  /// FSPTPTR, [191:140]
  package var firstStage: PhysicalAddress {
    get { PhysicalAddress(words.address(191, 140)) }
    set { words.setAddress(newValue.rawValue, 191, 140) }
  }

  /// Returns whether a bit is set that is reserved in a unit with these capabilities: bits that the
  /// specification reserves, address bits from `addressBits` on, memory types (which no unit here
  /// supports), and the first-stage fields that the unit does not support.
  func hasReservedBits(addressBits: Int, _ capabilities: VTdCapabilities) -> Bool {
    let beyond = ~(1 << UInt64(addressBits) - 1) as UInt64
    var firstStage: UInt64 = 0xf02
    if !capabilities.firstStage { firstStage |= ~0x60 }
    if !capabilities.privilegedRequests { firstStage |= 1 << 0 }
    if !capabilities.extendedAccessedFlag { firstStage |= 1 << 7 }
    // The first-stage table of a nested entry is at a guest physical address, which the second
    // stage checks.
    if type != .nested { firstStage |= beyond }
    return words[0] & (0xc20 | beyond) != 0 || words[1] & 0xffff_ffff_fe7f_0000 != 0
      || words[2] & firstStage != 0 || (3..<8).contains { words[$0] != 0 }
  }
}
