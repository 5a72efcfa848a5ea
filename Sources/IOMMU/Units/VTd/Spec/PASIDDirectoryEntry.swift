// SPDX-License-Identifier: Apache-2.0

/// VT-d §9.5 Scalable-Mode PASID Directory Entry: one entry per 64 PASIDs.
package enum PASIDDirectoryEntry {
  private static let addressMask: UInt64 = ~0xfff

  package static func offset(of pasid: PASID) -> UInt64 { UInt64(pasid.rawValue >> 6) * 8 }

  package static func make(table: PhysicalAddress) -> UInt64 {
    table.rawValue & addressMask | 1
  }
  package static func isPresent(_ entry: UInt64) -> Bool { entry & 1 != 0 }
  /// FPD, [1]
  package static func disablesFaults(_ entry: UInt64) -> Bool { entry & 2 != 0 }
  /// SMPTBLPTR, [63:12]
  package static func table(_ entry: UInt64) -> PhysicalAddress {
    PhysicalAddress(entry & addressMask)
  }
  static func reserved(addressBits: Int) -> UInt64 {
    0xffc | ~(1 << UInt64(addressBits) - 1)
  }
}
