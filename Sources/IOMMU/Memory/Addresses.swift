// SPDX-License-Identifier: Apache-2.0

// Numbers with a unit are types. In all names, `last` is inclusive, `end` is exclusive, and `count`
// counts.

/// An address that a device puts on the bus, before translation. All 64 bits may be used.
package struct IOVA: RawRepresentable, Hashable, Comparable, Sendable, BitwiseCopyable {
  package let rawValue: UInt64
  @inline(__always) package init(rawValue: UInt64) { self.rawValue = rawValue }
  @inline(__always) package init(_ rawValue: UInt64) { self.rawValue = rawValue }
  @inline(__always) package static func < (a: IOVA, b: IOVA) -> Bool { a.rawValue < b.rawValue }
}

/// An address in the machine's simulated physical memory.
package struct PhysicalAddress: RawRepresentable, Hashable, Comparable, Sendable,
  BitwiseCopyable
{
  package let rawValue: UInt64
  @inline(__always) package init(rawValue: UInt64) { self.rawValue = rawValue }
  @inline(__always) package init(_ rawValue: UInt64) { self.rawValue = rawValue }
  @inline(__always)
  package static func < (a: PhysicalAddress, b: PhysicalAddress) -> Bool {
    a.rawValue < b.rawValue
  }
}
