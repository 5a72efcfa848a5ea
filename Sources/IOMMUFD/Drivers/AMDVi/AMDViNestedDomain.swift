// SPDX-License-Identifier: Apache-2.0

// A guest's GCR3 table, nested on a paging domain (struct nested_domain): the fields of a device
// table entry that the guest decides.
//
// The uAPI has no command that invalidates what the unit has cached of the guest's page tables. The
// driver invalidates it when the domain is detached or replaced, and when pages of the parent are
// unmapped.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

final class AMDViNestedDomain: NestedDomain {
  private let viommu: AMDViVirtualIOMMU
  /// The device table entry that the guest has written.
  let guestEntry: DeviceTableEntry
  /// The host's domain ID for the guest's domain ID.
  let hostDomain: DomainID

  /// PASIDs belong to the guest.
  var hasPASIDAttach: Bool { false }

  var parent: AMDViPagingDomain { viommu.parent }

  init(of viommu: AMDViVirtualIOMMU, data: UserData) throws(Errno) {
    let type = IOMMU_HWPT_DATA_AMD_GUEST.rawValue
    guard data.type == type else { throw .notSupported }
    try FaultInjection.step()
    let argument = try data.load(iommu_hwpt_amd_guest.self, type: type, minimumThrough: \.dte)
    let dte = argument.dte
    let entry = DeviceTableEntry(words: [dte.0, dte.1, dte.2, dte.3])
    try Self.validate(entry, viommu.parent.platform.capabilities)
    guestEntry = entry
    hostDomain = try viommu.acquireHostDomain(for: entry.domain)
    self.viommu = viommu
  }

  deinit { viommu.releaseHostDomain(for: guestEntry.domain) }

  /// amd: validate_gdte_nested()
  private static func validate(
    _ entry: DeviceTableEntry, _ capabilities: AMDViCapabilities
  ) throws(Errno) {
    // The guest cannot set the host's page table.
    guard entry.hostLevels == 0, entry.hostTable.rawValue == 0 else { throw .invalidArgument }
    if entry.isValid, entry.isGuestValid, entry.guestCR3Table == 0 { throw .invalidArgument }
    guard entry.guestPagingMode <= 1, entry.guestCR3Levels < 3 else { throw .invalidArgument }
    guard entry.guestPagingMode == 0 || capabilities.guestLevels > 4 else {
      throw .notSupported
    }
  }

  /// Invalidates everything that the driver's unit has cached for the guest's domain, translations
  /// of the parent's page table included.
  func flush(_ driver: AMDViDriver) {
    driver.submit([
      .invalidatePages(.everything, of: hostDomain, pasid: nil, directories: true)
    ])
  }
}
