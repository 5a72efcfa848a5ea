// SPDX-License-Identifier: Apache-2.0

/// §5.3 L1CD, Level 1 Context Descriptor.
package enum ContextTableDescriptor {
  package static let size: UInt64 = 8

  package static func make(table: PhysicalAddress) -> UInt64 {
    var bits: InlineArray<1, UInt64> = [1]
    bits.setAddress(table.rawValue, 55, 12)
    return bits[0]
  }

  static func isValid(_ descriptor: UInt64) -> Bool { descriptor & 1 != 0 }
  /// L2Ptr, [55:12]
  static func table(_ descriptor: UInt64) -> UInt64 {
    let bits: InlineArray<1, UInt64> = [descriptor]
    return bits.address(55, 12)
  }
}

/// §5.4 CD, Context Descriptor: one stage 1 address space.
package struct ContextDescriptor: Sendable, BitwiseCopyable, Equatable {
  package static let size: UInt64 = 64
  package var words: InlineArray<8, UInt64>

  package init() { words = .init(repeating: 0) }
  package init(words: InlineArray<8, UInt64>) { self.words = words }

  package static func == (a: Self, b: Self) -> Bool { a.words.equals(b.words) }

  /// V, [31]
  package var isValid: Bool {
    get { words[bit: 31] }
    set { words[bit: 31] = newValue }
  }

  // MARK: The lower VA range (TTB0)

  /// T0SZ, [5:0], as the number of input address bits.
  package var inputBits: Int {
    get { 64 - Int(words[5, 0]) }
    set { words[5, 0] = UInt64(64 - newValue) }
  }
  /// TG0, [7:6], as log2 of the granule; `nil` for the reserved value.
  package var granuleShift: Int? {
    get { GranuleField.lower(words[7, 6])?.shift }
    set { words[7, 6] = GranuleField.encodingLower(newValue ?? 12) }
  }
  /// IR0, OR0, SH0, [13:8]: cacheability and shareability of table walks.
  package mutating func setTableAttributes(inner: UInt64, outer: UInt64, sharing: UInt64) {
    words[9, 8] = inner
    words[11, 10] = outer
    words[13, 12] = sharing
  }
  /// EPD0, [14]
  var disablesLowerWalks: Bool { words[bit: 14] }
  /// TTB0, [119:68]
  package var table: PhysicalAddress {
    get { PhysicalAddress(words.address(119, 68)) }
    set { words.setAddress(newValue.rawValue, 119, 68) }
  }
  /// TBI0, [38]
  var ignoresTopByte: Bool { words[bit: 38] }

  // MARK: The upper VA range (TTB1)

  /// EPD1, [30]
  package var disablesUpperWalks: Bool {
    get { words[bit: 30] }
    set { words[bit: 30] = newValue }
  }
  /// TBI1, [39]
  var upperIgnoresTopByte: Bool { words[bit: 39] }

  // MARK: Both ranges

  /// The fields that TTB0 and TTB1 both have.
  struct TableFields {
    let table: PhysicalAddress
    let granule: VMSAv8Table.Granule?
    let inputBits: Int
    /// HAD: the hierarchical attributes of table descriptors are ignored.
    let ignoresHierarchy: Bool
  }

  /// TTB0, TG0, T0SZ, and HAD0, [65].
  var lowerTable: TableFields {
    TableFields(
      table: table, granule: GranuleField.lower(words[7, 6]), inputBits: inputBits,
      ignoresHierarchy: words[bit: 65])
  }
  /// TTB1, [183:132], TG1, [23:22], T1SZ, [21:16], and HAD1, [129].
  var upperTable: TableFields {
    TableFields(
      table: PhysicalAddress(words.address(183, 132)), granule: GranuleField.upper(words[23, 22]),
      inputBits: 64 - Int(words[21, 16]), ignoresHierarchy: words[bit: 129])
  }

  /// WXN, [36]
  var forbidsWritableExecution: Bool { words[bit: 36] }
  /// ENDI, [15]
  var isBigEndian: Bool { words[bit: 15] }
  /// IPS, [34:32]
  package var outputSizeField: UInt64 {
    get { words[34, 32] }
    set { words[34, 32] = newValue }
  }
  /// AFFD, [35]
  var ignoresAccessFlag: Bool { words[bit: 35] }
  /// AA64, [41]
  package var usesAArch64Tables: Bool {
    get { words[bit: 41] }
    set { words[bit: 41] = newValue }
  }
  /// HD, [42]
  package var updatesDirtyState: Bool {
    get { words[bit: 42] }
    set { words[bit: 42] = newValue }
  }
  /// HA, [43]
  package var updatesAccessFlag: Bool {
    get { words[bit: 43] }
    set { words[bit: 43] = newValue }
  }
  /// S, [44]
  package var stallsFaults: Bool {
    get { words[bit: 44] }
    set { words[bit: 44] = newValue }
  }
  /// R, [45]
  package var recordsFaults: Bool {
    get { words[bit: 45] }
    set { words[bit: 45] = newValue }
  }
  /// A, [46]
  package var abortsFaults: Bool {
    get { words[bit: 46] }
    set { words[bit: 46] = newValue }
  }
  /// ASET, [47]: the ASID is not shared with processors.
  package var isPrivate: Bool {
    get { words[bit: 47] }
    set { words[bit: 47] = newValue }
  }
  /// ASID, [63:48]
  package var asid: UInt16 {
    get { UInt16(words[63, 48]) }
    set { words[63, 48] = UInt64(newValue) }
  }
  /// MAIR0 and MAIR1, [255:192]
  package var memoryAttributes: UInt64 {
    get { words[255, 192] }
    set { words[255, 192] = newValue }
  }
}
