// SPDX-License-Identifier: Apache-2.0

// The identifiers that a request carries, and the identifiers that translations are tagged with.

/// Bus, device and function of the PCI function that issues a request: the source-id of VT-d, the
/// StreamID of SMMUv3, the DeviceID of AMD-Vi. A unit serves one PCI segment.
package struct RequesterID: RawRepresentable, Hashable, Comparable, Sendable, BitwiseCopyable {
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }
  package init(bus: UInt8, device: UInt8, function: UInt8) {
    rawValue = UInt16(bus) << 8 | UInt16(device & 31) << 3 | UInt16(function & 7)
  }
  package static func < (a: RequesterID, b: RequesterID) -> Bool { a.rawValue < b.rawValue }
}

/// A process address space ID, 20 bits (PCIe 6 §6.20).
package struct PASID: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
}

/// The identifier of an address space in a unit's tables, with which the unit tags translations
/// (VT-d: domain-id, AMD-Vi: DomainID).
package struct DomainID: RawRepresentable, Hashable, Comparable, Sendable, BitwiseCopyable {
  package let rawValue: UInt16
  @inline(__always) package init(rawValue: UInt16) { self.rawValue = rawValue }
  package static func < (a: DomainID, b: DomainID) -> Bool { a.rawValue < b.rawValue }
}
