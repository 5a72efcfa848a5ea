// A guest's GCR3 table in front of a nesting parent (struct nested_domain): the part of a device table entry
// that the guest decides.
//
// No command of the uAPI invalidates what the unit has cached of the guest's tables. It goes when the
// domain is detached or replaced, and when something is unmapped from the parent.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

final class AMDViNestedDomain: NestedDomain {
  let unit: AMDViVirtualIOMMU
  let guestEntry: DeviceTableEntry
  /// The unit's domain id.
  let hostDomain: DomainID

  var parent: AMDViPagingDomain { unit.parent }

  init(of unit: AMDViVirtualIOMMU, data: UserData) throws(Errno) {
    let type = IOMMU_HWPT_DATA_AMD_GUEST.rawValue
    guard data.type == type else { throw .notSupported }
    try FaultInjection.step()
    let argument = try data.load(iommu_hwpt_amd_guest.self, type: type, minimumThrough: \.dte)
    let dte = argument.dte
    let entry = DeviceTableEntry(words: [dte.0, dte.1, dte.2, dte.3])
    try Self.validate(entry, unit.parent.driver.unit.capabilities)
    guestEntry = entry
    hostDomain = try unit.takeDomain(entry.domain)
    self.unit = unit
  }

  deinit { unit.giveDomain(guestEntry.domain) }

  /// amd: validate_gdte_nested()
  private static func validate(
    _ entry: DeviceTableEntry, _ capabilities: AMDViCapabilities
  ) throws(Errno) {
    // The host's table is not the guest's affair.
    guard entry.hostLevels == 0, entry.hostTable.rawValue == 0 else { throw .invalidArgument }
    if entry.isValid, entry.isGuestValid, entry.guestCR3Table == 0 { throw .invalidArgument }
    guard entry.guestPagingMode <= 1, entry.guestCR3Levels < 3 else { throw .invalidArgument }
    guard entry.guestPagingMode == 0 || capabilities.guestLevels > 4 else {
      throw .notSupported
    }
  }

  /// Everything that the unit has cached for the guest's domain, the host's part included.
  func flush() {
    parent.driver.submit([
      .invalidatePages(.everything, of: hostDomain, pasid: nil, directories: true)
    ])
  }
}
