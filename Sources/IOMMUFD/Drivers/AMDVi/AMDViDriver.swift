// SPDX-License-Identifier: Apache-2.0

// The kernel's amd driver, as far as iommufd uses it, for one AMD-Vi unit. The driver owns the
// device table and the devices' GCR3 tables in physical memory, and invalidates the unit's caches
// with commands.
//
// A device without attachment has a device table entry that is valid and has no translation, so its
// requests fault. Attaching writes the entry in a single store: a request goes through the old
// domain or through the new one. (The kernel detaches first. Here everything that can fail comes
// before the store, so a failed attach changes nothing.)
//
// The driver has no operation that attaches a domain to a PASID. PASIDs belong to processes (SVA)
// or to a guest that has GCR3 tables of its own.

internal import CUAPI
package import IOMMU
internal import Synchronization
package import SystemPackage

/// The amd driver for one AMD-Vi unit. A domain that one driver has made can be attached through
/// the drivers of all units of its ``AMDViPlatform``.
package final class AMDViDriver: IOMMUDriver {
  /// How the driver answers a client that nests a guest's page tables.
  package enum GuestTableInterface: String, Sendable {
    /// EOPNOTSUPP: nothing calls the kernel's functions for guest page tables in Linux 7.3.
    case kernel
    /// Guest page tables can be nested as <linux/iommufd.h> describes struct iommu_hwpt_amd_guest,
    /// with the answers of the kernel's functions for them.
    case uapi
  }

  /// A unit and the options of its driver.
  package struct Configuration: Sendable {
    package var unit = AMDViUnit.Configuration()
    package var guestTableInterface = GuestTableInterface.kernel

    package init(guestTableInterface: GuestTableInterface = .kernel) {
      self.guestTableInterface = guestTableInterface
    }
  }

  package let unit: AMDViUnit
  let memory: PhysicalMemory
  private let guestTableInterface: GuestTableInterface
  let platform: AMDViPlatform
  private let table: AMDViUnit.DeviceTable
  /// The address to which COMPLETION_WAIT stores (amd: amd_iommu.cmd_sem).
  private let semaphore: PhysicalAddress
  private let completions = Mutex<UInt64>(0)
  private let devices = Mutex<[RequesterID: AMDViDevice]>([:])

  /// Enables translation in `unit` (amd: early_enable_iommu()). The DMA of every device is blocked.
  /// - Parameters:
  ///   - platform: What the unit shares with the machine's other units. `nil` for the only unit.
  ///   - lastDevice: The highest device ID behind the unit (IVRS).
  package init(
    unit: AMDViUnit, of platform: AMDViPlatform? = nil, lastDevice: RequesterID,
    guestTableInterface: GuestTableInterface = .kernel, memory: PhysicalMemory
  ) throws(Errno) {
    self.unit = unit
    self.platform = platform ?? AMDViPlatform([unit.capabilities])
    self.memory = memory
    self.guestTableInterface = guestTableInterface
    let bytes = (Int(lastDevice.rawValue) + 1) * Int(DeviceTableEntry.size)
    let sizeShift = max(12, Int.bitWidth - (bytes - 1).leadingZeroBitCount)
    semaphore = try memory.allocateTable()
    do throws(Errno) {
      table = AMDViUnit.DeviceTable(
        base: try memory.allocateTable(sizeShift: sizeShift),
        count: (1 << sizeShift) / Int(DeviceTableEntry.size))
    } catch {
      memory.freeTable(semaphore)
      throw error
    }
    for index in 0..<table.count {
      memory.storeEntry(AMDViDevice.clearEntry.words, at: table.entryAddress(index))
    }
    unit.enable(table)
    submit(
      capabilities.invalidateAll
        ? [.invalidateAll]
        : (0..<table.count).map {
          .invalidateDeviceTableEntry(RequesterID(rawValue: UInt16(truncatingIfNeeded: $0)))
        })
  }

  /// The features that the driver uses (amd: check_feature(), check_feature2()).
  var capabilities: AMDViCapabilities { platform.capabilities }

  /// Executes legal commands of the driver and waits for their completion
  /// (amd: iommu_queue_command(), iommu_completion_wait()).
  func submit(_ commands: [AMDViCommand]) {
    let ticket = completions.withLock { count in
      count += 1
      return count
    }
    do throws(AMDViUnit.IllegalCommand) {
      try unit.execute(commands + [.completionWait(storing: ticket, at: semaphore)])
    } catch {
      assertionFailure("an illegal command: \(error)")
    }
  }

  // MARK: Devices

  /// Adds a device (amd: amd_iommu_probe_device()). A device that is attached without a probe has
  /// default properties.
  /// - Returns: The properties that the device and the unit have.
  /// - Throws: `.operationNotSupportedByDevice` (ENODEV) for a device ID behind the device table.
  @discardableResult
  package func probe(
    _ device: RequesterID, _ properties: DeviceProperties = .init()
  ) throws(Errno) -> DeviceProperties {
    try addDevice(device, properties).properties
  }

  /// Sets the function that switches ATS and page requests of a device.
  package func setServiceControl(
    of device: RequesterID, _ control: @escaping TranslationServiceControl
  ) {
    knownDevice(device)?.setServiceControl(control)
  }

  private func addDevice(
    _ requester: RequesterID, _ properties: DeviceProperties
  ) throws(Errno) -> AMDViDevice {
    guard Int(requester.rawValue) < table.count else { throw .operationNotSupportedByDevice }
    let device = AMDViDevice(
      requester, entry: table.entryAddress(Int(requester.rawValue)),
      properties.limited(to: capabilities), driver: self)
    devices.withLock { $0[requester] = device }
    return device
  }

  private func findOrAddDevice(_ requester: RequesterID) throws(Errno) -> AMDViDevice {
    if let device = knownDevice(requester) { return device }
    return try addDevice(requester, .init())
  }

  func knownDevice(_ requester: RequesterID) -> AMDViDevice? { devices.withLock { $0[requester] } }

  // MARK: What a device and its unit can do

  /// amd: amd_iommu_get_resv_regions()
  package func reservedRegions(of device: RequesterID) -> [ReservedRegion] {
    var regions = [ReservedRegion(range: 0xfee0_0000...0xfeef_ffff, kind: .msi)]
    if !capabilities.ignoresHyperTransportRange {
      regions.append(ReservedRegion(range: 0xfd_0000_0000...0xff_ffff_ffff, kind: .reserved))
    }
    return regions
  }

  /// amd: amd_iommu_capable(). Page table entries always have the FC bit, which forces coherence.
  package func enforcesCacheCoherency(for device: RequesterID) -> Bool { true }

  /// amd: amd_iommu_capable()
  package func capabilities(of device: RequesterID) -> DeviceCapabilities {
    var capabilities: DeviceCapabilities = unit.capabilities.hostFlags ? .dirtyTracking : []
    if knownDevice(device)?.properties.hasATS == true { capabilities.insert(.ats) }
    return capabilities
  }

  /// The kernel limits PASIDs to one less than the unit has (amd: iommu_init_pci()).
  package func usablePASIDWidth(_ width: Int) -> Int? {
    capabilities.guestTranslation ? min(width, capabilities.pasidBits - 1) : nil
  }

  /// amd: amd_iommufd_hw_info()
  package func hardwareInfo(
    of device: RequesterID, type: UInt32
  ) throws(Errno) -> HardwareInfo? {
    var info = iommu_hw_info_amd()
    info.efr = capabilities.features
    info.efr2 = capabilities.features2
    return try HardwareInfo(requested: type, type: IOMMU_HW_INFO_TYPE_AMD.rawValue, info)
  }

  // MARK: Domains

  /// amd: amd_iommu_domain_alloc_paging_flags()
  package func makePagingDomain(
    _ flags: PagingDomainFlags, for device: RequesterID, data: UserData?
  ) throws(Errno) -> any PagingDomain {
    guard flags.isSubset(of: [.nestParent, .dirtyTracking, .pasid]), data == nil else {
      throw .notSupported
    }
    switch flags {
    case []:
      return try AMDViPagingDomain(.host, for: platform, memory: memory)
    case .dirtyTracking, .nestParent, [.dirtyTracking, .nestParent]:
      // amd: amd_iommu_hd_support() looks at the unit of the device.
      guard !flags.contains(.dirtyTracking) || unit.capabilities.hostFlags,
        !flags.contains(.nestParent) || capabilities.canNest
      else { throw .notSupported }
      return try AMDViPagingDomain(
        .host, tracksDirty: flags.contains(.dirtyTracking), for: platform, memory: memory)
    case .pasid where capabilities.hasPASIDs:
      return try AMDViPagingDomain(.guest, for: platform, memory: memory)
    default:
      throw .notSupported
    }
  }

  // MARK: Attaching

  package func attach(
    _ new: DomainAttachment, to requester: RequesterID, pasid: PASID?,
    replacing _: DomainAttachment?
  ) throws(Errno) {
    // The driver has no set_dev_pasid, so iommu_attach_device_pasid() fails.
    guard pasid == nil else { throw .notSupported }
    let device = try findOrAddDevice(requester)
    switch new.domain {
    case let domain as AMDViPagingDomain where domain.platform === platform:
      try device.attach(domain)
    case let domain as AMDViNestedDomain where domain.parent.platform === platform:
      try device.attach(domain)
    default:
      throw .invalidArgument
    }
  }

  package func block(_ requester: RequesterID, pasid: PASID?) {
    guard pasid == nil else { return }
    knownDevice(requester)?.block()
  }

  // MARK: vIOMMUs

  /// amd: amd_iommufd_get_viommu_size(), which ignores the type.
  package func supportsVirtualIOMMU(type: UInt32, for device: RequesterID) -> Bool { true }

  /// amd: amd_iommufd_viommu_init()
  package func makeVirtualIOMMU(
    type: UInt32, on parent: any PagingDomain, for device: RequesterID,
    host: any VirtualIOMMUHost, data: UserData?
  ) throws(Errno) -> any VirtualIOMMU {
    guard let parent = parent as? AMDViPagingDomain, parent.platform === platform else {
      throw .invalidArgument
    }
    return AMDViVirtualIOMMU(on: parent, guestTableInterface)
  }

  /// A guest's GCR3 table is a PASID table of the guest. In Linux 7.3 PASIDs belong to processes
  /// only.
  package var hasUserPASIDTable: Bool { guestTableInterface == .uapi }
}

extension AMDViUnit.DeviceTable {
  /// Returns the address of the entry of device ID `index`.
  fileprivate func entryAddress(_ index: Int) -> PhysicalAddress {
    base.advanced(by: UInt64(index) * DeviceTableEntry.size)
  }
}

extension AMDViCapabilities {
  /// amd: amd_iommu_pasid_supported()
  var hasPASIDs: Bool { guestTranslation && guestIO && pageRequests }

  /// amd: is_nest_parent_supported()
  var canNest: Bool { guestTranslation && guestIO && nestedGuestCR3 }

  /// The number of PASIDs: the kernel's limit is one less than the unit's PASIDs (amd:
  /// iommu_init_pci()).
  var pasidCount: Int { 1 << pasidBits - 1 }

  /// Bits of the addresses that host page tables translate (amd: amd_iommu_hpt_vasize).
  var hostAddressBits: Int { min(64, 12 + 9 * hostLevels) }
}
