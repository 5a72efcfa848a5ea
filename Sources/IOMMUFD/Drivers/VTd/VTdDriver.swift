// SPDX-License-Identifier: Apache-2.0

// The kernel's intel driver, as far as iommufd uses it, for one VT-d unit in scalable mode. The
// driver owns the root table, context tables and PASID tables in physical memory, writes PASID
// table entries, and invalidates the unit's caches.
//
// A requester without attachments has a context entry and an empty PASID table entry, so its
// requests fault. Attaching writes one PASID table entry in a single store: a request goes through
// the old domain or through the new one. (The kernel clears the entry in between, and the entry can
// stay clear when the attach fails. Here everything that can fail comes before the store.) Every
// change is followed by the invalidations of VT-d §6.5.3.3 table 28. The last of them waits for the
// requests that still use the old entry.

internal import CUAPI
package import IOMMU
internal import Synchronization
package import SystemPackage

/// The intel driver for one VT-d unit.
package final class VTdDriver: IOMMUDriver {
  package let unit: VTdUnit
  private let memory: PhysicalMemory
  private let rootTable: PhysicalAddress
  private let state = Mutex(State())

  /// A thread that holds the lock of the state can wait for the unit, and waits for nothing else.
  private struct State {
    /// Context tables by requester ID >> 7: one for each half of a bus.
    var contextTables: [UInt16: PhysicalAddress] = [:]
    var devices: [RequesterID: VTdDevice] = [:]
  }

  /// A type of vIOMMU on VT-d units. The kernel's driver has none. An extension can add one.
  package struct VirtualIOMMUType: Sendable {
    /// IOMMU_VIOMMU_TYPE_*
    let type: UInt32
    let make: @Sendable (any PagingDomain, VTdCapabilities) throws(Errno) -> any VirtualIOMMU
  }

  private let virtualIOMMU: VirtualIOMMUType?

  /// Domain IDs. The kernel reserves 0 for not-present entries in caching mode and 1 for
  /// first-stage and pass-through translations (intel: domain_attach_iommu()).
  let domainIDs: IDAllocator

  /// Enables translation in `unit`. The DMA of every requester is blocked.
  package init(
    unit: VTdUnit, memory: PhysicalMemory, virtualIOMMU: VirtualIOMMUType? = nil
  ) throws(Errno) {
    self.unit = unit
    self.memory = memory
    self.virtualIOMMU = virtualIOMMU
    let domains = 1 << min(max(unit.capabilities.domainBits, 4), 16)
    domainIDs = IDAllocator(2..<domains, exhausted: .noSpace)
    rootTable = try memory.allocateTable()
    unit.setRootTable(rootTable)
    unit.invalidateContextCache(.global)
    unit.invalidatePASIDCache(.global)
    unit.invalidateIOTLB(.global)
  }

  // MARK: Devices

  /// Adds a device (intel: intel_iommu_probe_device()). A device that is attached without a probe
  /// has default properties.
  /// - Returns: The properties that the device and the unit have. The kernel enables them in the
  ///   device's configuration space (intel: intel_iommu_probe_finalize()).
  @discardableResult
  package func probe(
    _ device: RequesterID, _ properties: DeviceProperties
  ) throws(Errno) -> DeviceProperties {
    try findOrAddDevice(device, properties).properties
  }

  // MARK: What a device and its unit can do

  /// intel: intel_iommu_get_resv_regions()
  package func reservedRegions(of device: RequesterID) -> [ReservedRegion] {
    [ReservedRegion(range: 0xfee0_0000...0xfeef_ffff, kind: .msi)]
  }

  /// intel: intel_iommu_capable()
  package func enforcesCacheCoherency(for device: RequesterID) -> Bool {
    unit.capabilities.snoopControl
  }

  /// intel: intel_iommu_capable(). The PASID permissions are those that the device's PASID Control
  /// register enables.
  package func capabilities(of device: RequesterID) -> DeviceCapabilities {
    let properties = state.withLock { $0.devices[device]?.properties } ?? .init()
    var capabilities: DeviceCapabilities = []
    if unit.capabilities.secondStageFlags { capabilities.insert(.dirtyTracking) }
    if properties.hasATS { capabilities.insert(.ats) }
    if properties.canExecute { capabilities.insert(.pasidExecute) }
    if properties.canBePrivileged { capabilities.insert(.pasidPrivileged) }
    return capabilities
  }

  /// intel: alloc_iommu()
  package func usablePASIDWidth(_ width: Int) -> Int? {
    unit.capabilities.pasidBits > 0 ? min(width, unit.capabilities.pasidBits) : nil
  }

  /// intel: intel_iommu_hw_info()
  package func hardwareInfo(
    of device: RequesterID, type: UInt32
  ) throws(Errno) -> HardwareInfo? {
    let erratum = IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17.rawValue
    return try HardwareInfo(
      requested: type, type: IOMMU_HW_INFO_TYPE_INTEL_VTD.rawValue,
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

  package var hasNestedDomains: Bool { true }

  package func makeNestedDomain(
    on parent: any PagingDomain, for device: RequesterID, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> any NestedDomain {
    try VTdNestedDomain(on: parent, flags: flags, data: data, unit.capabilities)
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
    let device = try findOrAddDevice(requester, .init())
    let entryPASID = pasid ?? VTdDevice.ridPASID
    guard let entry = try device.allocateEntry(of: entryPASID, memory: memory) else {
      throw .invalidArgument
    }
    let id = try acquireDomainID(new, domain, for: device, pasid: pasid)
    let use = VTdDomainUse(driver: self, device: device, pasid: entryPASID)
    domain.usage.add(use, id: id, isNesting: false)
    domain.parent?.usage.add(use, id: id, isNesting: true)
    let old = device.exchange(entryPASID, .init(domain: domain, id: id))
    memory.storeEntry(domain.makeEntry(id: id).words, at: entry)
    if let old {
      flush(old, of: use)
      remove(use, of: old)
    } else if unit.capabilities.cachingMode {
      // In caching mode a unit tags cached not-present entries with domain ID 0.
      flush(DomainID(rawValue: 0), of: use, usesFirstStage: false)
    }
  }

  /// Acquires the domain's ID in the unit and makes the remaining checks of an attach, in the
  /// kernel's order.
  private func acquireDomainID(
    _ new: DomainAttachment, _ domain: any VTdDomain, for device: VTdDevice, pasid: PASID?
  ) throws(Errno) -> DomainID {
    // intel: intel_iommu_enable_iopf()
    let lacksPageRequests = new.handlesPageRequests && !device.properties.hasPageRequests
    if lacksPageRequests, pasid == nil, domain.parent == nil {
      throw .operationNotSupportedByDevice
    }
    let id = try domain.usage.acquireID(in: self)
    do throws(Errno) {
      if lacksPageRequests { throw Errno.operationNotSupportedByDevice }
      try domain.requireValidEntry(for: unit.capabilities)
    } catch {
      domain.usage.releaseID(in: self)
      throw error
    }
    return id
  }

  /// intel: device_block_translation(), blocking_domain_set_dev_pasid()
  package func block(_ requester: RequesterID, pasid: PASID?) {
    let entryPASID = pasid ?? VTdDevice.ridPASID
    guard let device = state.withLock({ $0.devices[requester] }),
      let old = device.exchange(entryPASID, nil),
      let entry = device.entryAddress(of: entryPASID)
    else { return }
    memory.storeEntry(PASIDTableEntry().words, at: entry)
    let use = VTdDomainUse(driver: self, device: device, pasid: entryPASID)
    flush(old, of: use)
    remove(use, of: old)
  }

  private func remove(_ use: VTdDomainUse, of old: VTdDevice.Attachment) {
    old.domain.usage.remove(use, id: old.id, isNesting: false)
    old.domain.parent?.usage.remove(use, id: old.id, isNesting: true)
    old.domain.usage.releaseID(in: self)
  }

  // MARK: vIOMMUs

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

  // MARK: Invalidation

  private func flush(_ old: VTdDevice.Attachment, of use: VTdDomainUse) {
    flush(
      old.id, of: use,
      usesFirstStage: old.domain.usesFirstStage && old.domain.parent == nil)
  }

  /// Invalidates what the unit has cached of a present PASID table entry after a change: VT-d
  /// §6.5.3.3, table 28 (intel: intel_pasid_tear_down_entry(), intel_pasid_flush_present()).
  /// - Parameter usesFirstStage: Whether the entry had a first stage and no second stage.
  private func flush(_ id: DomainID, of use: VTdDomainUse, usesFirstStage: Bool) {
    unit.invalidatePASIDCache(.pasid(id, use.pasid))
    unit.invalidateIOTLB(usesFirstStage ? .pasid(id, use.pasid) : .domain(id))
    guard use.device.hasATS else { return }
    unit.invalidateDeviceTLB(
      of: use.device.requester, pasid: use.pasid == VTdDevice.ridPASID ? nil : use.pasid)
  }

  /// Changes bits of a present PASID table entry in a single store, because the unit can read the
  /// entry during the change (intel: intel_pasid_setup_dirty_tracking(),
  /// intel_pasid_setup_page_snoop_control()).
  func changeEntry(of use: VTdDomainUse, _ change: (inout PASIDTableEntry) -> Void) {
    guard let address = use.device.entryAddress(of: use.pasid),
      let words = memory.loadEntry(address, as: InlineArray<8, UInt64>.self)
    else { return }
    var entry = PASIDTableEntry(words: words)
    change(&entry)
    memory.storeEntry(entry.words, at: address)
    flush(entry.domain, of: use, usesFirstStage: entry.type == .firstStage)
  }

  // MARK: Tables

  private func findOrAddDevice(
    _ requester: RequesterID, _ properties: DeviceProperties
  ) throws(Errno) -> VTdDevice {
    try state.withLock { state throws(Errno) in
      if let device = state.devices[requester] { return device }
      let table = try contextTable(of: requester, in: &state)
      let device = try VTdDevice(
        requester, properties.limited(to: unit.capabilities), memory: memory)
      memory.storeEntry(
        device.contextEntry.words,
        at: table.advanced(by: ScalableContextEntry.offset(of: requester)))
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
    memory.storeEntry(
      ScalableRootEntry.makeWord(contextTable: table),
      at: rootTable.advanced(by: ScalableRootEntry.word(of: requester)))
    state.contextTables[requester.rawValue >> 7] = table
    return table
  }
}
