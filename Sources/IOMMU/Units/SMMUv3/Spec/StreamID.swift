// SPDX-License-Identifier: Apache-2.0

/// A StreamID (§3.2 Stream numbering). Commands and events have 32 bits for it; SMMU_IDR1.SIDSIZE
/// is the number of bits that a unit uses. The StreamID of a PCI function is its requester ID.
package struct StreamID: RawRepresentable, Hashable, Comparable, Sendable, BitwiseCopyable {
  package let rawValue: UInt32

  package init(rawValue: UInt32) { self.rawValue = rawValue }
  package init(_ requester: RequesterID) { rawValue = UInt32(requester.rawValue) }

  package static func < (a: StreamID, b: StreamID) -> Bool { a.rawValue < b.rawValue }
}
