// SPDX-License-Identifier: Apache-2.0

/// §2.2.6.3 Guest CR3 Table: one guest table per PASID. With several levels, every table has 512
/// entries.
package enum GuestCR3Entry {
  private static let addressMask: UInt64 = 0x000f_ffff_ffff_f000

  package static func make(_ address: PhysicalAddress) -> UInt64 {
    address.rawValue & addressMask | 1
  }

  /// V, [0]
  package static func isValid(_ entry: UInt64) -> Bool { entry & 1 != 0 }

  /// The guest table or the next guest CR3 table, [51:12]
  package static func address(_ entry: UInt64) -> UInt64 { entry & addressMask }

  /// PWT and PCD, [4:3], which control caching of the guest table, exist at level 0 only.
  static func hasReservedBits(_ entry: UInt64, level: Int) -> Bool {
    entry & ~(addressMask | 1 | (level == 0 ? 0x18 : 0)) != 0
  }

  /// Returns the offset of the entry of `pasid` in a table at `level`. Level 0 is the last.
  package static func offset(of pasid: PASID, level: Int) -> UInt64 {
    UInt64(pasid.rawValue >> UInt32(9 * level) & 0x1ff) * 8
  }
}
