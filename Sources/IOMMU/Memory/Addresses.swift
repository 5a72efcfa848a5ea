// Numbers with a unit are types. `last` is inclusive everywhere, `end` exclusive, `count` counts.

/// An address as a device puts it on the bus, before translation. All 64 bits may be used.
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

/// What a mapping allows, or an access wants (PCIe has no execute-only DMA).
package struct Permissions: OptionSet, Hashable, Sendable {
  package let rawValue: UInt8
  @inline(__always) package init(rawValue: UInt8) { self.rawValue = rawValue }
  package static let read = Permissions(rawValue: 1)
  package static let write = Permissions(rawValue: 2)
}

/// Segment, bus, device and function of the PCI function that issues a request: the source-id of
/// VT-d, the stream id of SMMUv3, the device id of AMD-Vi. One unit serves one segment.
package struct RequesterID: RawRepresentable, Hashable, Comparable, Sendable, BitwiseCopyable {
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }
  package init(bus: UInt8, device: UInt8, function: UInt8) {
    rawValue = UInt16(bus) << 8 | UInt16(device & 31) << 3 | UInt16(function & 7)
  }
  package static func < (a: RequesterID, b: RequesterID) -> Bool { a.rawValue < b.rawValue }
}

/// A process address space id, 20 bits (PCIe 6 §6.20).
package struct PASID: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
}
