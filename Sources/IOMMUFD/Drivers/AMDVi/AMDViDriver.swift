// What the kernel's amd driver does for iommufd, on one unit: it keeps the device table and the devices' GCR3
// tables in physical memory, and tells the unit with commands what changed.
//
// A device at rest has an entry that is valid but has no translation, so its requests fault. To attach
// is to write its entry, whole: a request goes through the old domain or through the new one. (The
// kernel detaches first; here what can fail comes first, and nothing is lost when it does.)
//
// The driver has no operation that attaches a domain to a PASID: PASIDs are only those of processes
// (SVA), or of a guest with GCR3 tables of its own.

internal import CUAPI
package import IOMMU
internal import Synchronization
package import SystemPackage

package final class AMDViDriver: IOMMUDriver {
  /// Whether guests' tables can be nested.
  package enum GuestTables: String, Sendable {
    /// What the kernel has for them is not connected in 7.3: EOPNOTSUPP.
    case asKernel = "kernel"
    /// As <linux/iommufd.h> describes struct iommu_hwpt_amd_guest, and as what the kernel has would do.
    case asUAPI = "uapi"
  }

  package let unit: AMDViUnit
  let memory: PhysicalMemory
  let guestTables: GuestTables
  /// Domain ids. 1 is the kernel's own identity domain. amd: pdom_ids
  let domainIDs = LowestFreeIDs(2..<1 << 16, exhausted: .noSpace)
  private let table: AMDViUnit.DeviceTable
  /// Where COMPLETION_WAIT stores. amd: amd_iommu.cmd_sem
  private let semaphore: PhysicalAddress
  private let completions = Mutex<UInt64>(0)
  private let devices = Mutex<[RequesterID: AMDViDevice]>([:])

  /// Takes `unit` into use: DMA of every device is blocked from now on. amd: early_enable_iommu()
  /// - Parameter lastDevice: the highest device id behind the unit (IVRS).
  package init(
    unit: AMDViUnit, lastDevice: RequesterID, guestTables: GuestTables = .asKernel,
    memory: PhysicalMemory
  ) throws(Errno) {
    self.unit = unit
    self.memory = memory
    self.guestTables = guestTables
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
      memory.storeEntry(AMDViDevice.restingEntry.words, at: table.place(of: index))
    }
    unit.enable(table)
    submit(
      unit.capabilities.invalidateAll
        ? [.invalidateAll]
        : (0..<table.count).map {
          .invalidateDeviceTableEntry(RequesterID(rawValue: UInt16(truncatingIfNeeded: $0)))
        })
  }

  /// Commands of the driver's own, which are legal, and a wait for the end of them.
  /// amd: iommu_queue_command(), iommu_completion_wait()
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

  /// Makes a device known. amd: amd_iommu_probe_device()
  /// - Throws: `.operationNotSupportedByDevice` for one that the device table does not reach.
  @discardableResult
  package func probe(
    _ device: RequesterID, _ properties: AMDViDeviceProperties = .init()
  ) throws(Errno) -> AMDViDeviceProperties {
    guard Int(device.rawValue) < table.count else { throw .operationNotSupportedByDevice }
    let made = AMDViDevice(
      device, entry: table.place(of: Int(device.rawValue)),
      properties.common(with: unit.capabilities), driver: self)
    devices.withLock { $0[device] = made }
    return made.properties
  }

  /// Sets how ATS and page requests are switched on and off in the device's configuration space.
  package func setControl(
    of device: RequesterID,
    _ control: @escaping @Sendable (_ ats: Bool, _ pageRequests: Bool) -> Void
  ) {
    knownDevice(device)?.setControl {
      control($0.contains(.ats), $0.contains(.pageRequests))
    }
  }

  /// A device that is attached without having been probed has no services.
  private func device(_ requester: RequesterID) throws(Errno) -> AMDViDevice {
    if let device = knownDevice(requester) { return device }
    try probe(requester)
    guard let device = knownDevice(requester) else { throw .operationNotSupportedByDevice }
    return device
  }

  func knownDevice(_ requester: RequesterID) -> AMDViDevice? { devices.withLock { $0[requester] } }

  // MARK: What a device and its unit can do

  /// amd: amd_iommu_get_resv_regions()
  package func reservedRegions(of device: RequesterID) -> [ReservedRegion] {
    var regions = [ReservedRegion(range: 0xfee0_0000...0xfeef_ffff, kind: .msi)]
    if !unit.capabilities.ignoresHyperTransportRange {
      regions.append(ReservedRegion(range: 0xfd_0000_0000...0xff_ffff_ffff, kind: .reserved))
    }
    return regions
  }

  /// Entries always force coherence. amd: amd_iommu_capable()
  package func enforcesCacheCoherency(for device: RequesterID) -> Bool { true }

  /// amd: amd_iommu_capable()
  package func capabilities(of device: RequesterID) -> DeviceCapabilities {
    var capabilities: DeviceCapabilities = unit.capabilities.hostFlags ? .dirtyTracking : []
    if knownDevice(device)?.properties.hasATS == true { capabilities.insert(.ats) }
    return capabilities
  }

  /// amd: amd_iommufd_hw_info()
  package func hardwareInfo(
    of device: RequesterID, type: UInt32
  ) throws(Errno) -> HardwareInfo? {
    var info = iommu_hw_info_amd()
    info.efr = unit.capabilities.features
    info.efr2 = unit.capabilities.features2
    return try HardwareInfo(asked: type, type: IOMMU_HW_INFO_TYPE_AMD.rawValue, info)
  }

  // MARK: Domains

  /// amd: amd_iommu_domain_alloc_paging_flags()
  package func makePagingDomain(
    _ flags: PagingDomainFlags, for device: RequesterID, data: UserData?
  ) throws(Errno) -> any PagingDomain {
    guard flags.isSubset(of: [.nestParent, .dirtyTracking, .pasid]), data == nil else {
      throw .notSupported
    }
    let capabilities = unit.capabilities
    switch flags {
    case []:
      return try AMDViPagingDomain(.host, driver: self)
    case .dirtyTracking, .nestParent, [.dirtyTracking, .nestParent]:
      guard !flags.contains(.dirtyTracking) || capabilities.hostFlags,
        !flags.contains(.nestParent) || capabilities.canNest
      else { throw .notSupported }
      return try AMDViPagingDomain(
        .host, tracksDirty: flags.contains(.dirtyTracking), driver: self)
    case .pasid where capabilities.hasPASIDs:
      return try AMDViPagingDomain(.guest, driver: self)
    default:
      throw .notSupported
    }
  }

  package func attach(
    _ new: DomainAttachment, to requester: RequesterID, pasid: PASID?,
    replacing _: DomainAttachment?
  ) throws(Errno) {
    // There is no set_dev_pasid: iommu_attach_device_pasid()
    guard pasid == nil else { throw .notSupported }
    let device = try device(requester)
    switch new.domain {
    case let domain as AMDViPagingDomain where domain.driver === self:
      try device.attach(domain)
    case let domain as AMDViNestedDomain where domain.parent.driver === self:
      try device.attach(domain)
    default:
      throw .invalidArgument
    }
  }

  package func block(_ requester: RequesterID, pasid: PASID?) {
    guard pasid == nil else { return }
    knownDevice(requester)?.block()
  }

  // MARK: Virtual units

  /// amd: amd_iommufd_get_viommu_size() does not look at the type.
  package func supportsVirtualIOMMU(type: UInt32, for device: RequesterID) -> Bool { true }

  /// amd: amd_iommufd_viommu_init()
  package func makeVirtualIOMMU(
    type: UInt32, on parent: any PagingDomain, for device: RequesterID,
    host: any VirtualIOMMUHost, data: UserData?
  ) throws(Errno) -> any VirtualIOMMU {
    guard let parent = parent as? AMDViPagingDomain, parent.driver === self else {
      throw .invalidArgument
    }
    return AMDViVirtualIOMMU(on: parent, guestTables: guestTables)
  }

  /// With 7.3's tables a PASID is nobody's but a process's. A guest's GCR3 table has PASIDs of its own.
  package var hasUserPASIDTable: Bool { guestTables == .asUAPI }
}

extension AMDViUnit.DeviceTable {
  fileprivate func place(of index: Int) -> PhysicalAddress {
    PhysicalAddress(base.rawValue + UInt64(index) * DeviceTableEntry.size)
  }
}

extension AMDViCapabilities {
  /// amd: amd_iommu_pasid_supported()
  var hasPASIDs: Bool { guestTranslation && guestIO && pageRequests }

  /// amd: is_nest_parent_supported()
  var canNest: Bool { guestTranslation && guestIO && nestedGuestCR3 }

  /// Bits of addresses that host tables translate. amd: amd_iommu_hpt_vasize
  var hostAddressBits: Int { min(64, 12 + 9 * hostLevels) }
}
