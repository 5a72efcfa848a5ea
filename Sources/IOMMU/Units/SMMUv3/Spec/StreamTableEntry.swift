// SPDX-License-Identifier: Apache-2.0

/// §5.1 Level 1 Stream Table Descriptor.
package enum StreamTableDescriptor {
  package static let size: UInt64 = 8

  /// - Parameter span: the level 2 table has 2^(span - 1) entries.
  package static func make(table: PhysicalAddress, span: Int) -> UInt64 {
    var bits: InlineArray<1, UInt64> = [0]
    bits[4, 0] = UInt64(span)
    bits.setAddress(table.rawValue, 55, 6)
    return bits[0]
  }

  static func span(_ descriptor: UInt64) -> Int { Int(descriptor & 0x1f) }
  /// L2Ptr, [55:6], aligned to the size of the level 2 table.
  static func table(_ descriptor: UInt64) -> PhysicalAddress {
    let bits: InlineArray<1, UInt64> = [descriptor]
    let size = UInt64(1) << UInt64(max(span(descriptor), 1) - 1 + 6)
    return PhysicalAddress(bits.address(55, 6) & ~(size - 1))
  }
}

/// §5.2 STE, Stream Table Entry: the configuration of one stream.
package struct StreamTableEntry: Sendable, BitwiseCopyable, Equatable {
  package static let size: UInt64 = 64
  package var words: InlineArray<8, UInt64>

  package init() { words = .init(repeating: 0) }
  package init(words: InlineArray<8, UInt64>) { self.words = words }

  package static func == (a: Self, b: Self) -> Bool { a.words.equals(b.words) }

  /// The values of Config. All values without bit 2 mean abort.
  package enum Configuration: UInt64, Sendable {
    case abort = 0
    case bypass = 4
    case stage1 = 5
    case stage2 = 6
    case nested = 7
  }

  /// The values of S1DSS: the treatment of transactions without substream in a stream with
  /// substreams.
  package enum DefaultSubstream: UInt64, Sendable {
    case terminate = 0
    case bypass = 1
    case substream0 = 2
  }

  /// The values of S1Fmt.
  package enum DescriptorTable: UInt64, Sendable {
    case linear = 0
    /// Two levels; a level 2 table has 64 descriptors.
    case leaves4K = 1
    /// Two levels; a level 2 table has 1024 descriptors.
    case leaves64K = 2

    /// log2 of the number of descriptors of a level 2 table.
    var leafBits: Int { self == .leaves4K ? 6 : 10 }
  }

  /// V, [0]
  package var isValid: Bool {
    get { words[bit: 0] }
    set { words[bit: 0] = newValue }
  }
  /// Config, [3:1]
  package var configuration: Configuration {
    get { Configuration(rawValue: words[3, 1]) ?? .abort }
    set { words[3, 1] = newValue.rawValue }
  }
  package var hasStage1: Bool { words[bit: 3] && words[bit: 1] }
  package var hasStage2: Bool { words[bit: 3] && words[bit: 2] }

  // MARK: Stage 1

  /// S1Fmt, [5:4]; 3 behaves as 0.
  package var descriptorTable: DescriptorTable {
    get { DescriptorTable(rawValue: words[5, 4]) ?? .linear }
    set { words[5, 4] = newValue.rawValue }
  }
  /// S1ContextPtr, [55:6]: an intermediate address if the stream has a stage 2.
  package var descriptors: UInt64 {
    get { words.address(55, 6) }
    set { words.setAddress(newValue, 55, 6) }
  }
  /// S1CDMax, [63:59]: log2 of the number of descriptors.
  package var descriptorBits: Int {
    get { Int(words[63, 59]) }
    set { words[63, 59] = UInt64(newValue) }
  }
  /// S1DSS, [65:64]; 3 behaves as 0.
  package var defaultSubstream: DefaultSubstream {
    get { DefaultSubstream(rawValue: words[65, 64]) ?? .terminate }
    set { words[65, 64] = newValue.rawValue }
  }
  /// S1CIR, S1COR, S1CSH, [71:66]: cacheability and shareability of descriptor fetches.
  package mutating func setDescriptorAttributes(inner: UInt64, outer: UInt64, sharing: UInt64) {
    words[67, 66] = inner
    words[69, 68] = outer
    words[71, 70] = sharing
  }
  /// MEV, [83]: similar events may be merged.
  package var mergesEvents: Bool {
    get { words[bit: 83] }
    set { words[bit: 83] = newValue }
  }
  /// S1STALLD, [91]
  package var disablesStalls: Bool {
    get { words[bit: 91] }
    set { words[bit: 91] = newValue }
  }
  /// EATS, [93:92]: 1 enables full ATS.
  package var ats: UInt64 {
    get { words[93, 92] }
    set { words[93, 92] = newValue }
  }
  /// SHCFG, [109:108]: 1 uses the shareability of the transaction.
  package var sharing: UInt64 {
    get { words[109, 108] }
    set { words[109, 108] = newValue }
  }

  // MARK: Stage 2

  /// S2FWB, [89]
  package var forcesWriteBack: Bool {
    get { words[bit: 89] }
    set { words[bit: 89] = newValue }
  }
  /// S2VMID, [143:128]
  package var vmid: UInt16 {
    get { UInt16(words[143, 128]) }
    set { words[143, 128] = UInt64(newValue) }
  }
  /// S2T0SZ, [165:160], as the number of input address bits.
  package var inputBits: Int {
    get { 64 - Int(words[165, 160]) }
    set { words[165, 160] = UInt64(64 - newValue) }
  }
  /// S2SL0, [167:166]
  package var startLevelField: UInt64 {
    get { words[167, 166] }
    set { words[167, 166] = newValue }
  }
  /// S2IR0, S2OR0, S2SH0, [173:168]: cacheability and shareability of table walks.
  package mutating func setTableAttributes(inner: UInt64, outer: UInt64, sharing: UInt64) {
    words[169, 168] = inner
    words[171, 170] = outer
    words[173, 172] = sharing
  }
  /// S2TG, [175:174]; `nil` for the reserved value.
  var granule: VMSAv8Table.Granule? { GranuleField.lower(words[175, 174]) }
  /// S2TG, [175:174], as log2 of the granule.
  package var granuleShift: Int? {
    get { granule?.shift }
    set { words[175, 174] = GranuleField.encodingLower(newValue ?? 12) }
  }
  /// S2PS, [178:176]
  package var outputSizeField: UInt64 {
    get { words[178, 176] }
    set { words[178, 176] = newValue }
  }
  /// S2AA64, [179]
  package var usesAArch64Tables: Bool {
    get { words[bit: 179] }
    set { words[bit: 179] = newValue }
  }
  /// S2ENDI, [180]
  var isBigEndian: Bool { words[bit: 180] }
  /// S2AFFD, [181]
  var ignoresAccessFlag: Bool { words[bit: 181] }
  /// S2PTW, [182]: stage 1 table walks to device memory fault.
  package var protectsTableWalks: Bool {
    get { words[bit: 182] }
    set { words[bit: 182] = newValue }
  }
  /// S2HD, [183], S2HA, [184]
  var updatesDirtyState: Bool { words[bit: 183] }
  var updatesAccessFlag: Bool { words[bit: 184] }
  /// S2S, [185]
  package var stallsFaults: Bool {
    get { words[bit: 185] }
    set { words[bit: 185] = newValue }
  }
  /// S2R, [186]
  package var recordsFaults: Bool {
    get { words[bit: 186] }
    set { words[bit: 186] = newValue }
  }
  /// S2TTB, [247:196]
  package var table: PhysicalAddress {
    get { PhysicalAddress(words.address(247, 196)) }
    set { words.setAddress(newValue.rawValue, 247, 196) }
  }
}

/// The encodings of granules: `lower` is that of TG0 and S2TG, `upper` that of TG1.
enum GranuleField {
  static func lower(_ field: UInt64) -> VMSAv8Table.Granule? {
    switch field {
    case 0: .size4K
    case 1: .size64K
    case 2: .size16K
    default: nil
    }
  }

  static func upper(_ field: UInt64) -> VMSAv8Table.Granule? {
    switch field {
    case 1: .size16K
    case 2: .size4K
    case 3: .size64K
    default: nil
    }
  }

  static func encodingLower(_ shift: Int) -> UInt64 { shift == 16 ? 1 : shift == 14 ? 2 : 0 }
}
