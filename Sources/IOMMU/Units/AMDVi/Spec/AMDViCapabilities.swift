// SPDX-License-Identifier: Apache-2.0

// AMD I/O Virtualization Technology (IOMMU) Specification, 48882, revision 3.10.
// All files of this folder cite that revision.

/// The capabilities of one unit: §3.4.7 Extended Feature Register (EFR, MMIO offset 30h) and
/// Extended Feature 2 Register (EFR2, 1A0h).
package struct AMDViCapabilities: Hashable, Sendable {
  /// HATS: the maximum number of levels of host tables, 4 to 6.
  package var hostLevels = 6
  /// HASup, HDSup: the unit updates accessed and dirty flags of host table entries.
  package var hostFlags = true

  /// GTSup
  package var guestTranslation = true
  /// GATS: the maximum number of levels of guest tables, 4 or 5.
  package var guestLevels = 4
  /// GLXSup: the maximum number of levels of guest CR3 tables after the first, 0 to 2.
  package var guestCR3Levels = 1
  /// PASmax: the number of PASID bits, 1 to 16.
  package var pasidBits = 16
  /// GIoSup: requests without PASID can use the guest table of PASID 0.
  package var guestIO = true
  /// NXSup: the unit checks the no-execute flag of guest table entries.
  package var noExecute = true
  /// PPRSup and EPHSup: peripheral page requests. The kernel requires both for PASIDs.
  package var pageRequests = true

  /// IotlbSup (capability header, bit 24): the unit supports device TLBs.
  package var deviceTLBs = true
  /// IASup
  package var invalidateAll = true
  /// GCR3TRPMode (EFR2): the first guest CR3 table can be at a guest physical address.
  package var nestedGuestCR3 = true
  /// HTRangeIgnore (EFR2): the addresses from FD_0000_0000h to FF_FFFF_FFFFh are not special.
  package var ignoresHyperTransportRange = false
  /// log2 of the number of event log entries, 8 to 15.
  package var eventLogBits = 9

  package init() {}

  /// EFR
  package var features: UInt64 {
    var value: UInt64 = UInt64(min(max(hostLevels, 4), 6) - 4) << 10
    if hostFlags { value |= 1 << 49 | 1 << 52 }
    if noExecute { value |= 1 << 3 }
    if invalidateAll { value |= 1 << 6 }
    if pageRequests { value |= 1 << 1 | 1 << 50 }
    guard guestTranslation else { return value }
    value |= 1 << 4
    value |= UInt64(guestLevels > 4 ? 1 : 0) << 12
    value |= UInt64(min(max(guestCR3Levels, 0), 2)) << 14
    value |= UInt64(min(max(pasidBits, 1), 16) - 1) << 32
    value |= 1 << 37  // USSup
    if guestIO { value |= 1 << 48 }
    return value
  }

  /// EFR2
  package var features2: UInt64 {
    (nestedGuestCR3 ? 1 << 3 : 0) | (ignoresHyperTransportRange ? 1 << 11 : 0)
  }
}

extension AMDViCapabilities {
  /// The capabilities that a driver may use with all of `units`: the bits that are set in the
  /// registers of all of them (amd: get_global_efr(); iommu_init_pci() for IotlbSup). Fields that
  /// are numbers are not minima but the bits that their encodings share.
  package init(common units: [AMDViCapabilities]) {
    self = units.first ?? AMDViCapabilities()
    for unit in units.dropFirst() {
      hostLevels = 4 + ((hostLevels - 4) & (unit.hostLevels - 4))
      hostFlags = hostFlags && unit.hostFlags
      guestTranslation = guestTranslation && unit.guestTranslation
      guestLevels = min(guestLevels, unit.guestLevels)
      guestCR3Levels &= unit.guestCR3Levels
      pasidBits = 1 + ((pasidBits - 1) & (unit.pasidBits - 1))
      guestIO = guestIO && unit.guestIO
      noExecute = noExecute && unit.noExecute
      pageRequests = pageRequests && unit.pageRequests
      deviceTLBs = deviceTLBs && unit.deviceTLBs
      invalidateAll = invalidateAll && unit.invalidateAll
      nestedGuestCR3 = nestedGuestCR3 && unit.nestedGuestCR3
      ignoresHyperTransportRange = ignoresHyperTransportRange && unit.ignoresHyperTransportRange
    }
  }
}
