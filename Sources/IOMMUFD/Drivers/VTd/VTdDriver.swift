// What the kernel's intel driver does for iommufd, on one VT-d unit in scalable mode: it keeps the
// root, context and PASID tables in physical memory, writes PASID table entries, and tells the unit's
// caches what changed.
//
// A requester at rest has a context entry and an empty PASID directory, so its requests fault. To
// attach is to write one PASID table entry, whole: a request goes through the old domain or through the
// new one. (The kernel clears the entry in between and may leave it so when it fails; here what can
// fail comes first.) Every change is followed by the invalidations of VT-d §6.5.3.3 table 28, the last of
// which waits for requests that still use what was there.

internal import CUAPI
package import IOMMU
internal import Synchronization
package import SystemPackage

package final class VTdDriver: IOMMUDriver {
  package let unit: VTdUnit
  private let memory: PhysicalMemory
  private let rootTable: PhysicalAddress
  private let state = Mutex(State())

  /// Nobody holds it while waiting for anything but the unit.
  private struct State {
    /// Context tables by bus and half of its functions (requester id >> 7).
    var contextTables: [UInt16: PhysicalAddress] = [:]
    var devices: [RequesterID: VTdDevice] = [:]
  }

  /// A type of vIOMMU on VT-d units. The kernel's driver has none; an extension may add one.
  package struct VirtualIOMMUType: Sendable {
    let type: UInt32
    let make: @Sendable (any PagingDomain, VTdCapabilities) throws(Errno) -> any VirtualIOMMU
  }

  private let virtualIOMMU: VirtualIOMMUType?

  /// Domain ids. 0 is for absent entries under caching mode, 1 for first-stage and pass-through
  /// translation. intel: domain_attach_iommu()
  let domainIDs: LowestFreeIDs

  /// Takes `unit` into use: DMA of every requester is blocked from now on.
  package init(
    unit: VTdUnit, memory: PhysicalMemory, virtualIOMMU: VirtualIOMMUType? = nil
  ) throws(Errno) {
    self.unit = unit
    self.memory = memory
    self.virtualIOMMU = virtualIOMMU
    let domains = 1 << min(max(unit.capabilities.domainBits, 4), 16)
    domainIDs = LowestFreeIDs(2..<domains, exhausted: .noSpace)
    rootTable = try memory.allocateTable()
    unit.setRootTable(rootTable)
    unit.invalidateContextCache(.global)
    unit.invalidatePASIDCache(.global)
    unit.invalidateIOTLB(.global)
  }

  /// Makes a device known, with what it can do. A device that is attached without has nothing but plain
  /// requests. intel: intel_iommu_probe_device()
  /// - Returns: what is to be enabled in its configuration space. intel: intel_iommu_probe_finalize()
  @discardableResult
  package func probe(
    _ device: RequesterID, _ services: VTdDeviceServices
  ) throws(Errno) -> VTdDeviceServices {
    try self.device(device, services).services
  }

  /// The same for a device with PASIDs only.
  package func probe(_ device: RequesterID, pasidBits: Int) throws(Errno) {
    var services = VTdDeviceServices()
    services.pasidBits = pasidBits
    try probe(device, services)
  }

  // MARK: Properties

  /// intel: intel_iommu_get_resv_regions()
  package func reservedRegions(of device: RequesterID) -> [ReservedRegion] {
    [ReservedRegion(range: 0xfee0_0000...0xfeef_ffff, kind: .msi)]
  }

  /// intel: intel_iommu_capable()
  package func enforcesCacheCoherency(for device: RequesterID) -> Bool {
    unit.capabilities.snoopControl
  }

  /// intel: intel_iommu_capable(); of PASIDs, what the device's control register has enabled.
  package func capabilities(of device: RequesterID) -> DeviceCapabilities {
    let services = state.withLock { $0.devices[device]?.services } ?? .init()
    var capabilities: DeviceCapabilities = []
    if unit.capabilities.secondStageFlags { capabilities.insert(.dirtyTracking) }
    if services.hasATS { capabilities.insert(.ats) }
    if services.canExecute { capabilities.insert(.pasidExecute) }
    if services.canBePrivileged { capabilities.insert(.pasidPrivileged) }
    return capabilities
  }

  /// intel: intel_iommu_hw_info()
  package func hardwareInfo(
    of device: RequesterID, type: UInt32
  ) throws(Errno) -> HardwareInfo? {
    let erratum = IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17.rawValue
    return try HardwareInfo(
      asked: type, type: IOMMU_HW_INFO_TYPE_INTEL_VTD.rawValue,
      iommu_hw_info_vtd(
        flags: unit.hasReadOnlyErratum ? erratum : 0, __reserved: 0,
        cap_reg: unit.capabilities.capability, ecap_reg: unit.capabilities.extendedCapability))
  }

  // MARK: Domains

  /// intel: intel_iommu_domain_alloc_paging_flags()
  package func makePagingDomain(
    _ flags: PagingDomainFlags, for device: RequesterID, data: UserData?
  ) throws(Errno) -> any PagingDomain {
    guard data == nil else { throw .notSupported }
    return try VTdPagingDomain(flags, for: unit, memory: memory)
  }

  package func makeNestedDomain(
    on parent: any PagingDomain, for device: RequesterID, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> any NestedDomain {
    try VTdNestedDomain(on: parent, flags: flags, data: data, unit.capabilities)
  }

  // MARK: Virtual units

  package func supportsVirtualIOMMU(type: UInt32, for device: RequesterID) -> Bool {
    virtualIOMMU?.type == type
  }

  package func makeVirtualIOMMU(
    type: UInt32, on parent: any PagingDomain, for device: RequesterID,
    host: any VirtualIOMMUHost, data: UserData?
  ) throws(Errno) -> any VirtualIOMMU {
    guard data == nil, let virtualIOMMU, virtualIOMMU.type == type else { throw .notSupported }
    return try virtualIOMMU.make(parent, unit.capabilities)
  }

  // MARK: Attaching

  /// intel: intel_iommu_attach_device(), intel_iommu_set_dev_pasid(), intel_nested_attach_dev(),
  /// intel_nested_set_dev_pasid()
  package func attach(
    _ new: DomainAttachment, to requester: RequesterID, pasid: PASID?,
    replacing _: DomainAttachment?
  ) throws(Errno) {
    guard let domain = new.domain as? any VTdDomain else { throw .invalidArgument }
    if pasid != nil && unit.capabilities.pasidBits == 0 { throw .notSupported }
    try domain.requireCompatibility(with: unit.capabilities)
    let device = try device(requester, .init())
    let number = pasid ?? VTdDevice.ridPASID
    guard let place = try device.place(of: number, memory: memory) else {
      throw .invalidArgument
    }
    let id = try take(new, domain, for: device, pasid: pasid)
    let use = VTdDomainUse(driver: self, device: device, pasid: number)
    link(use, to: domain, id: id)
    let old = device.exchange(number, .init(domain: domain, id: id))
    memory.storeEntry(domain.makeEntry(id: id).words, at: place)
    if let old {
      flush(old, of: use)
      unlink(use, from: old)
    } else if unit.capabilities.cachingMode {
      // A unit that caches absent entries tags them with domain 0 (CM).
      flush(DomainID(rawValue: 0), of: use, usesFirstStage: false)
    }
  }

  /// What else an attach needs and may not get, in the order in which the driver asks.
  /// - Returns: the domain's id in this unit.
  private func take(
    _ new: DomainAttachment, _ domain: any VTdDomain, for device: VTdDevice, pasid: PASID?
  ) throws(Errno) -> DomainID {
    // intel: intel_iommu_enable_iopf()
    let lacksPageRequests = new.handlesPageRequests && !device.services.hasPageRequests
    if lacksPageRequests, pasid == nil, domain.parent == nil {
      throw .operationNotSupportedByDevice
    }
    let id = try domain.links.take(for: self)
    do throws(Errno) {
      if lacksPageRequests { throw Errno.operationNotSupportedByDevice }
      try domain.requireValidEntry(for: unit.capabilities)
    } catch {
      domain.links.give(back: self)
      throw error
    }
    return id
  }

  /// intel: device_block_translation(), blocking_domain_set_dev_pasid()
  package func block(_ requester: RequesterID, pasid: PASID?) {
    let number = pasid ?? VTdDevice.ridPASID
    guard let device = state.withLock({ $0.devices[requester] }),
      let old = device.exchange(number, nil), let place = device.existingPlace(of: number)
    else { return }
    memory.storeEntry(PASIDTableEntry().words, at: place)
    let use = VTdDomainUse(driver: self, device: device, pasid: number)
    flush(old, of: use)
    unlink(use, from: old)
  }

  private func link(_ use: VTdDomainUse, to domain: any VTdDomain, id: DomainID) {
    domain.links.add(use, id: id, isNesting: false)
    domain.parent?.links.add(use, id: id, isNesting: true)
  }

  private func unlink(_ use: VTdDomainUse, from old: VTdDevice.Attachment) {
    old.domain.links.remove(use, id: old.id, isNesting: false)
    old.domain.parent?.links.remove(use, id: old.id, isNesting: true)
    old.domain.links.give(back: self)
  }

  // MARK: Invalidation

  private func flush(_ old: VTdDevice.Attachment, of use: VTdDomainUse) {
    flush(
      old.id, of: use,
      usesFirstStage: old.domain.usesFirstStage && old.domain.parent == nil)
  }

  /// After a PASID table entry that was present changed: VT-d §6.5.3.3, table 28.
  /// intel: intel_pasid_tear_down_entry(), intel_pasid_flush_present()
  /// - Parameter usesFirstStage: only a first stage.
  private func flush(_ id: DomainID, of use: VTdDomainUse, usesFirstStage: Bool) {
    unit.invalidatePASIDCache(.pasid(id, use.pasid))
    unit.invalidateIOTLB(usesFirstStage ? .pasid(id, use.pasid) : .domain(id))
    guard use.device.hasATS else { return }
    unit.invalidateDeviceTLB(
      of: use.device.requester, pasid: use.pasid == VTdDevice.ridPASID ? nil : use.pasid)
  }

  /// Changes bits of a present entry that hardware may look at meanwhile.
  /// intel: intel_pasid_setup_dirty_tracking(), intel_pasid_setup_page_snoop_control()
  func changeEntry(of use: VTdDomainUse, _ change: (inout PASIDTableEntry) -> Void) {
    guard let place = use.device.existingPlace(of: use.pasid),
      let words = memory.loadEntry(place, as: InlineArray<8, UInt64>.self)
    else { return }
    var entry = PASIDTableEntry(words: words)
    change(&entry)
    memory.storeEntry(entry.words, at: place)
    flush(entry.domain, of: use, usesFirstStage: entry.type == .firstStage)
  }

  // MARK: Tables

  private func device(
    _ requester: RequesterID, _ services: VTdDeviceServices
  ) throws(Errno) -> VTdDevice {
    try state.withLock { state throws(Errno) in
      if let device = state.devices[requester] { return device }
      let table = try contextTable(of: requester, in: &state)
      let device = try VTdDevice(
        requester, services.common(with: unit.capabilities), memory: memory)
      let place = table.rawValue + ScalableContextEntry.offset(of: requester)
      memory.storeEntry(device.contextEntry.words, at: PhysicalAddress(place))
      if unit.capabilities.cachingMode { unit.invalidateContextCache(.device(requester)) }
      state.devices[requester] = device
      return device
    }
  }

  private func contextTable(
    of requester: RequesterID, in state: inout State
  ) throws(Errno) -> PhysicalAddress {
    if let table = state.contextTables[requester.rawValue >> 7] { return table }
    let table = try memory.allocateTable()
    let place = rootTable.rawValue + ScalableRootEntry.word(of: requester)
    memory.storeEntry(
      ScalableRootEntry.makeWord(contextTable: table), at: PhysicalAddress(place))
    state.contextTables[requester.rawValue >> 7] = table
    return table
  }
}
