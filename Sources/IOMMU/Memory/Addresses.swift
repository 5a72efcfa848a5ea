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
///
/// Tables of processes tell requests with privilege from others (PCIe 6 §6.20.2: PMR and ER); tables
/// that do not know the difference say `read` and `write`, and are asked for nothing else.
package struct Permissions: OptionSet, Hashable, Sendable, BitwiseCopyable {
  package let rawValue: UInt8
  @inline(__always) package init(rawValue: UInt8) { self.rawValue = rawValue }
  package static let read = Permissions(rawValue: 1)
  package static let write = Permissions(rawValue: 2)
  package static let execute = Permissions(rawValue: 4)
  package static let privilegedRead = Permissions(rawValue: 8)
  package static let privilegedWrite = Permissions(rawValue: 16)
  package static let privilegedExecute = Permissions(rawValue: 32)

  /// Both ways of writing.
  static let anyWrite: Permissions = [.write, .privilegedWrite]

  /// The same access, made with privilege.
  @inline(__always)
  package var privileged: Permissions {
    Permissions(rawValue: (rawValue & 7) &<< 3)
  }

  /// The same without the distinction: what a second stage is asked for.
  @inline(__always)
  var unprivileged: Permissions { Permissions(rawValue: (rawValue | rawValue &>> 3) & 7) }

  /// What a second stage allows, whoever asks.
  @inline(__always)
  var forBothPrivilegeLevels: Permissions {
    Permissions(rawValue: rawValue & 7 | (rawValue & 7) &<< 3)
  }
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
