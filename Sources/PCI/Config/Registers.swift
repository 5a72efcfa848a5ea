// SPDX-License-Identifier: Apache-2.0

// Offsets and bits of configuration registers that more than one file uses, with the
// specification's names: PCI Express Base 6.0 §7.5 (header, power management, PCI Express), §7.7
// (MSI, MSI-X), §7.8.9 (PASID) and §10.5 (ATS, page request interface).

/// Offsets in the type 0 configuration space header (§7.5.1.2).
package enum Type0Header {
  package static let vendorID = 0x00
  package static let deviceID = 0x02
  package static let command = 0x04
  package static let status = 0x06
  package static let revisionID = 0x08
  package static let cacheLineSize = 0x0c
  package static let latencyTimer = 0x0d
  package static let headerType = 0x0e
  package static let builtInSelfTest = 0x0f
  package static let bar0 = 0x10
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

/// Bits of the Command register (§7.5.1.1.3).
package struct CommandRegister: OptionSet, Sendable {
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }
  package static let ioSpace = CommandRegister(rawValue: 1 << 0)
  package static let memorySpace = CommandRegister(rawValue: 1 << 1)
  package static let busMaster = CommandRegister(rawValue: 1 << 2)
  package static let systemError = CommandRegister(rawValue: 1 << 8)
  package static let interruptDisable = CommandRegister(rawValue: 1 << 10)
}

/// Bits of the Status register (§7.5.1.1.4).
package struct StatusRegister: OptionSet, Sendable {
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }
  package static let interrupt = StatusRegister(rawValue: 1 << 3)
  package static let capabilitiesList = StatusRegister(rawValue: 1 << 4)
  /// The parity, abort and system error bits. All are RW1C.
  package static let errors = StatusRegister(rawValue: 0xf900)
}

/// Capability IDs.
package enum CapabilityID {
  package static let powerManagement: UInt8 = 0x01
  package static let msi: UInt8 = 0x05
  package static let express: UInt8 = 0x10
  package static let msix: UInt8 = 0x11
}

/// Extended capability IDs.
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
  /// PRG Response PASID Required: the response to a request with a PASID carries the PASID.
  package static let responseHasPASID: UInt16 = 1 << 15
}

/// Offsets and bits in the PASID capability (§7.8.9). The capability register and the control
/// register have the execute and privileged bits at the same positions.
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
  /// Bytes of a version 2 capability of an endpoint with a link.
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
