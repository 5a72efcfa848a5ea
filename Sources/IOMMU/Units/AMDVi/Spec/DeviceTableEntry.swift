// SPDX-License-Identifier: Apache-2.0

/// §2.2.2.1 Device Table Entry Format: one entry per function, 256 bits. The interrupt fields are
/// stored but not used.
package struct DeviceTableEntry: Equatable, Sendable, BitwiseCopyable {
  package static let size: UInt64 = 32
  package var words: InlineArray<4, UInt64>

  package init() { words = .init(repeating: 0) }
  package init(words: InlineArray<4, UInt64>) { self.words = words }

  package static func == (a: Self, b: Self) -> Bool { a.words.equals(b.words) }

  /// V, [0]
  package var isValid: Bool {
    get { words[bit: 0] }
    set { words[bit: 0] = newValue }
  }
  /// TV, [1]: the translation fields are valid.
  package var isTranslationValid: Bool {
    get { words[bit: 1] }
    set { words[bit: 1] = newValue }
  }
  /// HAD, [8:7]: 0 updates no flags, 1 accessed flags, 3 accessed and dirty flags.
  package var hostFlags: UInt64 {
    get { words[8, 7] }
    set { words[8, 7] = newValue }
  }
  /// Mode, [11:9]: the number of levels of the host table; 0 without host table.
  package var hostLevels: Int {
    get { Int(words[11, 9]) }
    set { words[11, 9] = UInt64(newValue) }
  }
  /// Host page table root pointer, [51:12]
  package var hostTable: PhysicalAddress {
    get { PhysicalAddress(words.address(51, 12)) }
    set { words.setAddress(newValue.rawValue, 51, 12) }
  }
  /// PPR, [52]: the function may send page requests.
  package var allowsPageRequests: Bool {
    get { words[bit: 52] }
    set { words[bit: 52] = newValue }
  }
  /// GIoV, [54]: requests without PASID use the guest table of PASID 0.
  package var usesGuestTableWithoutPASID: Bool {
    get { words[bit: 54] }
    set { words[bit: 54] = newValue }
  }
  /// GV, [55]: the guest table fields are valid.
  package var isGuestValid: Bool {
    get { words[bit: 55] }
    set { words[bit: 55] = newValue }
  }
  /// GLX, [57:56]: the number of levels of the guest CR3 table after the first.
  package var guestCR3Levels: Int {
    get { Int(words[57, 56]) }
    set { words[57, 56] = UInt64(newValue) }
  }
  /// Guest CR3 table root pointer: bits 14 to 12 in [60:58], 30 to 15 in [95:80], 51 to 31 in
  /// [127:107].
  package var guestCR3Table: UInt64 {
    get { words[60, 58] << 12 | words[95, 80] << 15 | words[127, 107] << 31 }
    set {
      words[60, 58] = newValue >> 12
      words[95, 80] = newValue >> 15
      words[127, 107] = newValue >> 31
    }
  }
  /// IR, [61]
  package var allowsReading: Bool {
    get { words[bit: 61] }
    set { words[bit: 61] = newValue }
  }
  /// IW, [62]
  package var allowsWriting: Bool {
    get { words[bit: 62] }
    set { words[bit: 62] = newValue }
  }
  /// DomainID, [79:64]
  package var domain: DomainID {
    get { DomainID(rawValue: UInt16(words[79, 64])) }
    set { words[79, 64] = UInt64(newValue.rawValue) }
  }
  /// I, [96]: the function may use ATS.
  package var allowsDeviceTLB: Bool {
    get { words[bit: 96] }
    set { words[bit: 96] = newValue }
  }
  /// SE, [97]: after the first IO_PAGE_FAULT no further ones are recorded until the entry is
  /// invalidated.
  package var suppressesRepeatedFaults: Bool {
    get { words[bit: 97] }
    set { words[bit: 97] = newValue }
  }
  /// SA, [98]: no IO_PAGE_FAULT is recorded.
  package var suppressesFaults: Bool {
    get { words[bit: 98] }
    set { words[bit: 98] = newValue }
  }
  /// GuestPagingMode, [183:182]: 0 is four levels, 1 is five.
  package var guestPagingMode: UInt64 {
    get { words[183, 182] }
    set { words[183, 182] = newValue }
  }

  /// The reserved bits of the translation fields: [6:2], [63] and [106].
  private static let reserved: (UInt64, UInt64) = (0x7c | 1 << 63, 1 << 42)
  var hasReservedBits: Bool {
    words[0] & Self.reserved.0 != 0 || words[1] & Self.reserved.1 != 0
  }
}
