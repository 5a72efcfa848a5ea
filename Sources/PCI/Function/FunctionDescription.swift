// SPDX-License-Identifier: Apache-2.0

/// A PCI function as it is after power-on: identity, BARs, INTx and capabilities. ``configSpace()``
/// makes registers of it.
package struct FunctionDescription: Sendable {
  package var vendorID: UInt16
  package var deviceID: UInt16
  /// Base class, sub-class and programming interface, as in bits 31:8 of the register at 8.
  package var classCode: UInt32
  package var revision: UInt8
  package var subsystemVendorID: UInt16 = 0
  package var subsystemID: UInt16 = 0
  /// Whether the device has several functions (Header Type bit 7).
  package var isMultiFunction = false
  /// The Interrupt Pin register: 1 for INTA to 4 for INTD, 0 without INTx.
  package var interruptPin: UInt8 = 0
  package var bars: [BAR] = []
  package var capabilities: [Placed<Capability>] = []
  /// The extended capabilities in list order. The first one is at 0x100. A function without a PCI
  /// Express capability has none.
  package var extendedCapabilities: [Placed<ExtendedCapability>] = []

  package init(vendorID: UInt16, deviceID: UInt16, classCode: UInt32, revision: UInt8) {
    self.vendorID = vendorID
    self.deviceID = deviceID
    self.classCode = classCode
    self.revision = revision
  }

  /// A capability and its offset in configuration space.
  package struct Placed<Kind: Sendable>: Sendable {
    package var offset: Int
    package var kind: Kind
    package init(_ kind: Kind, at offset: Int) {
      self.offset = offset
      self.kind = kind
    }
  }
}

/// A memory range that the function requests in a base address register.
package struct BAR: Sendable {
  /// The register's index, 0 to 5. A 64-bit BAR occupies the next register too.
  package var index: Int
  /// Bytes, a power of two.
  package var size: UInt64
  package var is64Bit: Bool
  package var isPrefetchable: Bool
  /// The physical address that the host has assigned. The machine sets it.
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

/// A capability in the first 256 bytes of configuration space.
package enum Capability: Sendable {
  /// - Parameter noSoftReset: Whether the function keeps its state when it leaves D3hot.
  case powerManagement(noSoftReset: Bool)
  /// A version 2 capability of an endpoint.
  /// - Parameter rootComplexIntegrated: Whether the endpoint is integrated in the root complex and
  ///   so has no link.
  case express(functionLevelReset: Bool, rootComplexIntegrated: Bool)
  /// - Parameter vectors: The number of vectors: 1, 2, 4, 8, 16 or 32.
  case msi(vectors: Int, is64Bit: Bool, perVectorMasking: Bool)
  /// - Parameters:
  ///   - vectors: The number of vectors, 1 to 2048.
  ///   - bar: The index of the BAR that holds the vector table and the pending bits.
  ///   - table: The vector table's offset in the BAR.
  ///   - pendingBits: The pending bits' offset in the BAR.
  case msix(vectors: Int, bar: Int, table: UInt32, pendingBits: UInt32)

  package var id: UInt8 {
    switch self {
    case .powerManagement: CapabilityID.powerManagement
    case .express: CapabilityID.express
    case .msi: CapabilityID.msi
    case .msix: CapabilityID.msix
    }
  }
}

/// A capability in extended configuration space.
package enum ExtendedCapability: Sendable {
  /// - Parameter queueDepth: Invalidate Queue Depth: invalidations that the function can hold. 0
  ///   means 32.
  case ats(queueDepth: UInt8)
  /// - Parameter capacity: The largest number of outstanding page requests.
  case pageRequest(capacity: UInt32)
  /// - Parameters:
  ///   - width: Bits of a PASID, 1 to 20.
  ///   - permissions: ``PASIDCapability/execute`` and ``PASIDCapability/privileged``, as far as
  ///     requests with a PASID can have them.
  case pasid(width: UInt8, permissions: UInt16 = 0)
}

extension FunctionDescription {
  /// Whether the function has a PCI Express capability, and so extended configuration space.
  package var isExpress: Bool { offset(of: CapabilityID.express) != nil }

  /// Returns the offset of the capability `id`.
  package func offset(of id: UInt8) -> Int? {
    capabilities.first { $0.kind.id == id }?.offset
  }

  /// Returns the offset of the extended capability `id`.
  package func extendedOffset(of id: UInt16) -> Int? {
    guard isExpress else { return nil }
    return extendedCapabilities.first { $0.kind.id == id }?.offset
  }

  /// Returns the BAR whose register has the index `index`.
  package func bar(_ index: Int) -> BAR? {
    bars.first { $0.index == index }
  }

  /// The number of MSI vectors. 0 without an MSI capability.
  package var msiVectors: Int {
    for placed in capabilities {
      if case .msi(let vectors, _, _) = placed.kind { return vectors }
    }
    return 0
  }

  /// The MSI-X vector table. `nil` without an MSI-X capability.
  package var msixTable: MSIXTable? {
    for placed in capabilities {
      if case .msix(let vectors, let bar, let table, _) = placed.kind {
        return MSIXTable(vectors: vectors, bar: bar, offset: UInt64(table))
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

/// The place of the MSI-X vector table.
package struct MSIXTable: Sendable {
  package let vectors: Int
  /// The index of the BAR that holds the table.
  package let bar: Int
  /// Bytes from the start of the BAR.
  package let offset: UInt64
  /// Bytes of the table.
  package var size: UInt64 { UInt64(vectors * MSIX.entrySize) }
}
