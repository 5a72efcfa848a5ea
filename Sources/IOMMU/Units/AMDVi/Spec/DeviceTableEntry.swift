/// §2.2.2.1 Device Table Entry Format: one per function, 256 bits. What it says of interrupts is carried,
/// not looked at.
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
  /// TV, [1]: the rest about translation is valid.
  package var isTranslationValid: Bool {
    get { words[bit: 1] }
    set { words[bit: 1] = newValue }
  }
  /// HAD, [8:7]: 0: no flags, 1: accessed, 3: accessed and dirty.
  package var hostFlags: UInt64 {
    get { words[8, 7] }
    set { words[8, 7] = newValue }
  }
  /// Mode, [11:9]: levels of the host table; 0: there is none.
  package var hostLevels: Int {
    get { Int(words[11, 9]) }
    set { words[11, 9] = UInt64(newValue) }
  }
  /// Host page table root pointer, [51:12]
  package var hostTable: PhysicalAddress {
    get { PhysicalAddress(words.address(51, 12)) }
    set { words.setAddress(newValue.rawValue, 51, 12) }
  }
  /// PPR, [52]
  package var requestsPages: Bool {
    get { words[bit: 52] }
    set { words[bit: 52] = newValue }
  }
  /// GIoV, [54]: requests without PASID use the guest table of PASID 0.
  package var usesGuestTableWithoutPASID: Bool {
    get { words[bit: 54] }
    set { words[bit: 54] = newValue }
  }
  /// GV, [55]: there are guest tables.
  package var isGuestValid: Bool {
    get { words[bit: 55] }
    set { words[bit: 55] = newValue }
  }
  /// GLX, [57:56]: levels of the GCR3 table behind the first.
  package var guestCR3Levels: Int {
    get { Int(words[57, 56]) }
    set { words[57, 56] = UInt64(newValue) }
  }
  /// GCR3 table root pointer: [60:58] are bits 14 to 12, [95:80] 30 to 15, [127:107] 51 to 31.
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
  /// I, [96]: the function may translate for itself.
  package var allowsDeviceTLB: Bool {
    get { words[bit: 96] }
    set { words[bit: 96] = newValue }
  }
  /// SE, [97]: after the first IO_PAGE_FAULT, no more until the entry is invalidated.
  package var suppressesRepeatedFaults: Bool {
    get { words[bit: 97] }
    set { words[bit: 97] = newValue }
  }
  /// SA, [98]: no IO_PAGE_FAULT at all.
  package var suppressesFaults: Bool {
    get { words[bit: 98] }
    set { words[bit: 98] = newValue }
  }
  /// GuestPagingMode, [183:182]: 0: four levels, 1: five.
  package var guestPagingMode: UInt64 {
    get { words[183, 182] }
    set { words[183, 182] = newValue }
  }

  /// Bits of the part about translation that are zero in every entry: [6:2], [63] and [106].
  private static let reserved: (UInt64, UInt64) = (0x7c | 1 << 63, 1 << 42)
  var hasReservedBits: Bool {
    words[0] & Self.reserved.0 != 0 || words[1] & Self.reserved.1 != 0
  }
}
