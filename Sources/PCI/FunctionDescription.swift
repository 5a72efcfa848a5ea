// What a PCI function looks like before anybody has touched it: identity, base addresses, interrupt
// pin and capabilities. A description is a value; `configSpace()` turns it into registers.

package struct FunctionDescription: Sendable {
  package var vendorID: UInt16
  package var deviceID: UInt16
  /// Base class, sub-class and programming interface, as in bits 31:8 of the register at 8.
  package var classCode: UInt32
  package var revision: UInt8
  package var subsystemVendorID: UInt16 = 0
  package var subsystemID: UInt16 = 0
  /// One function of several of its device (header type bit 7).
  package var isMultiFunction = false
  /// 1 for INTA to 4 for INTD; 0 without INTx.
  package var interruptPin: UInt8 = 0
  package var bars: [BAR] = []
  package var capabilities: [Placed<Capability>] = []
  /// In the order of the list; the first is at 0x100. Without PCI Express they do not exist.
  package var extendedCapabilities: [Placed<ExtendedCapability>] = []

  package init(vendorID: UInt16, deviceID: UInt16, classCode: UInt32, revision: UInt8) {
    self.vendorID = vendorID
    self.deviceID = deviceID
    self.classCode = classCode
    self.revision = revision
  }

  /// A capability and where it stands.
  package struct Placed<Kind: Sendable>: Sendable {
    package var offset: Int
    package var kind: Kind
    package init(_ kind: Kind, at offset: Int) {
      self.offset = offset
      self.kind = kind
    }
  }
}

/// A memory range that the function asks for in a base address register.
package struct BAR: Sendable {
  /// 0 to 5; a 64-bit one takes the next as well.
  package var index: Int
  /// Bytes, a power of two.
  package var size: UInt64
  package var is64Bit: Bool
  package var isPrefetchable: Bool
  /// Where the host has placed it; set by the machine.
  package var address: UInt64 = 0

  package init(index: Int, size: UInt64, is64Bit: Bool, isPrefetchable: Bool = false) {
    self.index = index
    self.size = size
    self.is64Bit = is64Bit
    self.isPrefetchable = isPrefetchable
  }

  /// Bits 3:0 of the register: memory, type, prefetchable (PCIe §7.5.1.2.1).
  package var typeBits: UInt32 { (is64Bit ? 0x4 : 0) | (isPrefetchable ? 0x8 : 0) }
}

package enum Capability: Sendable {
  /// - Parameter noSoftReset: leaving D3hot keeps the function's state.
  case powerManagement(noSoftReset: Bool)
  /// An endpoint, version 2. `rootComplexIntegrated` when there is no link above it.
  case express(functionLevelReset: Bool, rootComplexIntegrated: Bool)
  /// - Parameter vectors: 1, 2, 4, 8, 16 or 32.
  case msi(vectors: Int, is64Bit: Bool, perVectorMasking: Bool)
  /// `table` and `pendingBits` are offsets in the base address `index`.
  case msix(vectors: Int, index: Int, table: UInt32, pendingBits: UInt32)

  package var id: UInt8 {
    switch self {
    case .powerManagement: CapabilityID.powerManagement
    case .express: CapabilityID.express
    case .msi: CapabilityID.msi
    case .msix: CapabilityID.msix
    }
  }
}

package enum ExtendedCapability: Sendable {
  /// - Parameter queueDepth: invalidations the function can hold, 1 to 32.
  case ats(queueDepth: UInt8)
  /// - Parameter capacity: page requests that may be outstanding.
  case pageRequest(capacity: UInt32)
  /// - Parameters:
  ///   - width: bits of a PASID, 1 to 20.
  ///   - permissions: that requests can ask for, as ``PASIDCapability`` has them.
  case pasid(width: UInt8, permissions: UInt16 = 0)
}

extension FunctionDescription {
  /// Whether there is a PCI Express capability, and so extended configuration space.
  package var isExpress: Bool { offset(of: CapabilityID.express) != nil }

  /// Where the capability `id` stands.
  package func offset(of id: UInt8) -> Int? {
    capabilities.first { $0.kind.id == id }?.offset
  }

  /// Where the extended capability `id` stands.
  package func extendedOffset(of id: UInt16) -> Int? {
    guard isExpress else { return nil }
    return extendedCapabilities.first { $0.kind.id == id }?.offset
  }

  package func bar(_ index: Int) -> BAR? {
    bars.first { $0.index == index }
  }

  /// Vectors of the MSI capability; 0 without.
  package var msiVectors: Int {
    for placed in capabilities {
      if case .msi(let vectors, _, _) = placed.kind { return vectors }
    }
    return 0
  }

  /// The MSI-X table, if there is one.
  package var msixTable: MSIXTable? {
    for placed in capabilities {
      if case .msix(let vectors, let index, let table, _) = placed.kind {
        return MSIXTable(vectors: vectors, bar: index, offset: UInt64(table))
      }
    }
    return nil
  }

  package var hasFunctionLevelReset: Bool {
    capabilities.contains {
      if case .express(true, _) = $0.kind { true } else { false }
    }
  }
}

package struct MSIXTable: Sendable {
  package let vectors: Int
  package let bar: Int
  package let offset: UInt64
  package var size: UInt64 { UInt64(vectors * MSIX.entrySize) }
}
