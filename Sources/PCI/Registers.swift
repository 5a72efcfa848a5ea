// Offsets and bits of the registers that more than one file speaks of, by the specification's names:
// PCI Express Base 6.0, §7.5 (header, power management, PCI Express), §7.7 (MSI, MSI-X), §10.5 (ATS,
// PRI) and §7.8.9 (PASID).

/// Offsets in the type 0 header.
package enum Header {
  package static let vendorID = 0x00
  package static let deviceID = 0x02
  package static let command = 0x04
  package static let status = 0x06
  package static let revisionID = 0x08
  package static let cacheLineSize = 0x0c
  package static let latencyTimer = 0x0d
  package static let headerType = 0x0e
  package static let builtInSelfTest = 0x0f
  package static let baseAddress0 = 0x10
  package static let subsystemVendorID = 0x2c
  package static let subsystemID = 0x2e
  package static let expansionROM = 0x30
  package static let capabilitiesPointer = 0x34
  package static let interruptLine = 0x3c
  package static let interruptPin = 0x3d
  /// Bytes of the header.
  package static let size = 0x40
}

/// Bytes of configuration space without and with the extended part.
package enum ConfigSize {
  package static let conventional = 256
  package static let extended = 4096
}

package struct Command: OptionSet, Sendable {
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }
  package static let ioSpace = Command(rawValue: 1 << 0)
  package static let memorySpace = Command(rawValue: 1 << 1)
  package static let busMaster = Command(rawValue: 1 << 2)
  package static let systemError = Command(rawValue: 1 << 8)
  package static let interruptDisable = Command(rawValue: 1 << 10)
}

package struct Status: OptionSet, Sendable {
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }
  package static let interrupt = Status(rawValue: 1 << 3)
  package static let capabilitiesList = Status(rawValue: 1 << 4)
  /// Parity, abort and system error bits, all RW1C.
  package static let errors = Status(rawValue: 0xf900)
}

/// Capability ids.
package enum CapabilityID {
  package static let powerManagement: UInt8 = 0x01
  package static let msi: UInt8 = 0x05
  package static let vendorSpecific: UInt8 = 0x09
  package static let express: UInt8 = 0x10
  package static let msix: UInt8 = 0x11
}

/// Extended capability ids.
package enum ExtendedCapabilityID {
  package static let ats: UInt16 = 0x000f
  package static let pageRequest: UInt16 = 0x0013
  package static let pasid: UInt16 = 0x001b
}

/// Offsets and bits in the ATS capability (§10.5.1).
package enum ATS {
  package static let control = 6
  package static let enable: UInt16 = 1 << 15
}

/// Offsets and bits in the page request capability (§10.5.2).
package enum PageRequestInterface {
  package static let control = 4
  package static let status = 6
  package static let allocation = 12
  package static let enable: UInt16 = 1 << 0
  package static let stopped: UInt16 = 1 << 8
  /// Responses to requests with PASID carry it.
  package static let responseHasPASID: UInt16 = 1 << 15
}

/// Offsets and bits in the PASID capability (§7.8.8). What the function can do and what it may do are at
/// the same bits of two registers.
package enum PASIDCapability {
  package static let capabilities = 4
  package static let control = 6
  package static let enable: UInt16 = 1 << 0
  package static let execute: UInt16 = 1 << 1
  package static let privileged: UInt16 = 1 << 2
}

/// Offsets and bits in the power management capability (§7.5.2).
package enum PowerManagement {
  package static let capabilities = 2
  package static let control = 4
  package static let size = 8
  package static let powerStateMask: UInt16 = 0x3
  package static let noSoftReset: UInt16 = 1 << 3
  package static let eventEnable: UInt16 = 1 << 8
  package static let eventStatus: UInt16 = 1 << 15
  package static let eventSupport: UInt16 = 0xf800
}

/// Offsets and bits in the PCI Express capability (§7.5.3).
package enum Express {
  package static let flags = 0x02
  package static let deviceCapabilities = 0x04
  package static let deviceControl = 0x08
  package static let deviceStatus = 0x0a
  package static let deviceControl2 = 0x28
  /// Of version 2, endpoint.
  package static let size = 0x3c
  package static let functionLevelReset: UInt32 = 1 << 28
  package static let initiateFunctionLevelReset: UInt16 = 1 << 15
  package static let maximumPayload: UInt16 = 0x00e0
  package static let phantomFunctions: UInt16 = 0x0200
  package static let maximumReadRequest: UInt16 = 0x7000
  package static let alternativeRoutingID2: UInt16 = 0x0020
}

/// Offsets and bits in the MSI capability (§7.7.1).
package enum MSI {
  package static let control = 2
  package static let address = 4
  package static let enable: UInt16 = 1 << 0
  package static let multipleCapableMask: UInt16 = 0x000e
  package static let multipleEnableMask: UInt16 = 0x0070
  package static let is64Bit: UInt16 = 1 << 7
  package static let perVectorMasking: UInt16 = 1 << 8
}

/// Offsets and bits in the MSI-X capability (§7.7.2).
package enum MSIX {
  package static let control = 2
  package static let table = 4
  package static let pendingBits = 8
  package static let size = 12
  package static let tableSizeMask: UInt16 = 0x07ff
  package static let functionMask: UInt16 = 1 << 14
  package static let enable: UInt16 = 1 << 15
  /// Bytes of one vector's entry in the table.
  package static let entrySize = 16
}
