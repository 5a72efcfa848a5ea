// SPDX-License-Identifier: Apache-2.0

// Each entry type of the configuration tables (scalable root, scalable context, PASID directory and
// PASID table) has a file. A value holds the 64-bit words of the entry as in memory. The unit reads
// the entries, and the unit's driver writes them.

/// VT-d §9.4 Scalable-Mode Context Entry: one entry per function.
package struct ScalableContextEntry: Equatable, Sendable, BitwiseCopyable {
  package static let size: UInt64 = 32
  package var words: InlineArray<4, UInt64>

  package init() { words = .init(repeating: 0) }
  package init(words: InlineArray<4, UInt64>) { self.words = words }

  /// Returns the offset of the function's entry in its context table.
  package static func offset(of requester: RequesterID) -> UInt64 {
    UInt64(requester.rawValue & 0x7f) * size
  }

  package static func == (a: Self, b: Self) -> Bool { a.words.equals(b.words) }

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
  /// DTE, [2]: the function may use ATS.
  package var allowsDeviceTLB: Bool {
    get { words[bit: 2] }
    set { words[bit: 2] = newValue }
  }
  /// PASIDE, [3]
  package var allowsPASID: Bool {
    get { words[bit: 3] }
    set { words[bit: 3] = newValue }
  }
  /// PRE, [4]: the function may send page requests.
  package var allowsPageRequests: Bool {
    get { words[bit: 4] }
    set { words[bit: 4] = newValue }
  }
  /// PDTS, [11:9], as log2 of the number of directory entries: PDTS + 7.
  package var directoryShift: Int {
    get { Int(words[11, 9]) + 7 }
    set { words[11, 9] = UInt64(max(newValue, 7) - 7) }
  }
  /// PASIDDIRPTR, [63:12]
  package var directory: PhysicalAddress {
    get { PhysicalAddress(words.address(63, 12)) }
    set { words.setAddress(newValue.rawValue, 63, 12) }
  }
  /// RID_PASID, [83:64]
  package var ridPASID: PASID {
    get { PASID(rawValue: UInt32(words[83, 64])) }
    set { words[83, 64] = UInt64(newValue.rawValue) }
  }

  /// Returns whether a bit is set that is reserved in this unit: [8:5], address bits from
  /// `addressBits` on, all bits from [85] on, and the enable bits of services that the unit does
  /// not have.
  func hasReservedBits(addressBits: Int, _ capabilities: VTdCapabilities) -> Bool {
    var reserved: UInt64 = 0x1e0 | ~(1 << UInt64(addressBits) - 1)
    if !capabilities.deviceTLBs { reserved |= 1 << 2 }
    if !capabilities.pageRequests { reserved |= 1 << 4 }
    return words[0] & reserved != 0 || words[1] & ~0x1f_ffff != 0 || words[2] != 0
      || words[3] != 0
  }
}
