// SPDX-License-Identifier: Apache-2.0

/// What a PCI device's capabilities and the firmware's description of the device say. A driver gets
/// it when it probes the device.
package struct DeviceProperties: Hashable, Sendable {
  /// log2 of the number of PASIDs. 0 without a PASID capability.
  package var pasidBits = 0
  /// Whether requests with a PASID can have execute permission.
  package var canExecute = false
  /// Whether requests with a PASID can have privileged permission.
  package var canBePrivileged = false
  /// Whether the device, and on Arm the root complex above it (IORT: ATS attribute), has ATS.
  package var hasATS = false
  package var hasPageRequests = false
  /// Whether the device's transactions can stall ("dma-can-stall").
  package var canStall = false
  /// Whether all accesses of the device, no-snoop accesses included, are coherent (IORT: CANWBS).
  package var isCoherent = true

  package init(pasidBits: Int = 0) { self.pasidBits = pasidBits }
}

/// Translation services that a driver switches on and off in a function's configuration space.
package struct TranslationServices: OptionSet, Hashable, Sendable {
  package let rawValue: UInt8
  package init(rawValue: UInt8) { self.rawValue = rawValue }
  /// ATS: the function has a device TLB.
  package static let ats = TranslationServices(rawValue: 1 << 0)
  /// The page request interface.
  package static let pageRequests = TranslationServices(rawValue: 1 << 1)
}

/// Enables the given services in a function's configuration space and disables the others.
package typealias TranslationServiceControl = @Sendable (TranslationServices) -> Void
