// SPDX-License-Identifier: Apache-2.0

/// VT-d §9.2 Scalable-Mode Root Entry: one entry per bus, with two context tables of 128 functions
/// each.
package struct ScalableRootEntry: Equatable, Sendable {
  package static let size: UInt64 = 16
  private static let addressMask: UInt64 = ~0xfff
  package var lower: UInt64
  package var upper: UInt64

  package init(lower: UInt64 = 0, upper: UInt64 = 0) {
    (self.lower, self.upper) = (lower, upper)
  }

  /// Returns the offset of a function's word in the root table: LP and LCTP for devices 0 to 15, UP
  /// and UCTP for devices 16 to 31.
  package static func word(of requester: RequesterID) -> UInt64 {
    UInt64(requester.rawValue >> 8) * size + UInt64(requester.rawValue >> 7 & 1) * 8
  }

  package static func makeWord(contextTable: PhysicalAddress) -> UInt64 {
    contextTable.rawValue & addressMask | 1
  }

  package static func isPresent(_ word: UInt64) -> Bool { word & 1 != 0 }
  package static func contextTable(_ word: UInt64) -> PhysicalAddress {
    PhysicalAddress(word & addressMask)
  }
  static func reserved(addressBits: Int) -> UInt64 {
    0xffe | ~(1 << UInt64(addressBits) - 1)
  }
}
