// SPDX-License-Identifier: Apache-2.0

// The kernel's arm-smmu-v3 driver, as far as iommufd uses it, for one SMMUv3. The driver owns the
// stream table and the devices' context descriptors in physical memory, and invalidates the unit's
// caches with commands.
//
// The stream table entry of a device without attachment aborts transactions. Attaching writes a
// context descriptor, a stream table entry or both. Each is written in a single store, so a
// transaction sees the old structure or the new one. A domain that is attached to a PASID is an
// entry of the device's own context descriptor table. With a nested domain the guest's context
// descriptor table is in use instead, so PASIDs belong to the guest.

internal import CUAPI
package import IOMMU
internal import Synchronization
package import SystemPackage

/// The arm-smmu-v3 driver for one SMMUv3.
package final class SMMUv3Driver: IOMMUDriver {
  package let unit: SMMUv3Unit
  let memory: PhysicalMemory
  private let streamTable: SMMUv3StreamTable
  /// ASIDs and VMIDs of paging domains. Context descriptors without a domain and streams without
  /// stage 2 use 0 (arm-smmu-v3: arm_smmu_asid_xa, vmid_map).
  let asids: IDAllocator
  let vmids: IDAllocator
  /// Virtual interfaces. The host uses 0 (tegra241-cmdqv: vintf_ids).
  let interfaces: IDAllocator
  private let devices = Mutex<[RequesterID: SMMUv3Device]>([:])
  let eventSinks = SMMUv3EventSinks()

  /// Enables translation in `unit` (arm-smmu-v3: arm_smmu_device_reset()). The DMA of every stream
  /// is aborted.
  package init(unit: SMMUv3Unit, memory: PhysicalMemory) throws(Errno) {
    self.unit = unit
    self.memory = memory
    let capabilities = unit.capabilities
    // The errors of xa_alloc() and ida_alloc_range() when every number is in use.
    asids = IDAllocator(1..<1 << capabilities.asidBits, exhausted: .resourceBusy)
    vmids = IDAllocator(1..<1 << capabilities.vmidBits, exhausted: .noSpace)
    interfaces = IDAllocator(1..<1 << unit.virtualQueues.interfaceBits, exhausted: .noSpace)
    streamTable = try SMMUv3StreamTable(
      sizeBits: capabilities.streamBits, isTwoLevel: capabilities.twoLevelStreamTable,
      memory: memory)
    unit.enable(streamTable.description)
    unit.submit([.invalidateAllStreams, .tlbi(.tlbiEverything)])
    unit.setFaultSink { [weak self] record in self?.handleEvents(record) }
  }

  // MARK: Devices

  /// Adds a device (arm-smmu-v3: arm_smmu_probe_device()). A device that is attached without a
  /// probe has default properties.
  /// - Returns: The properties that the device has behind the unit.
  /// - Throws: `.outOfRange` for a stream ID that the unit does not have, `.noMemory`.
  @discardableResult
  package func probe(
    _ device: RequesterID, _ properties: DeviceProperties = .init()
  ) throws(Errno) -> DeviceProperties {
    try addDevice(device, properties).properties
  }

  /// Sets the function that switches ATS of a device.
  package func setServiceControl(
    of device: RequesterID, _ control: @escaping TranslationServiceControl
  ) {
    knownDevice(device)?.setServiceControl(control)
  }

  private func addDevice(
    _ requester: RequesterID, _ properties: DeviceProperties
  ) throws(Errno) -> SMMUv3Device {
    let entry = try streamTable.allocateEntry(of: requester)
    let device = SMMUv3Device(
      requester, entry: entry, properties.limited(to: unit.capabilities), driver: self)
    devices.withLock { $0[requester] = device }
    return device
  }

  private func findOrAddDevice(_ requester: RequesterID) throws(Errno) -> SMMUv3Device {
    if let device = knownDevice(requester) { return device }
    return try addDevice(requester, .init())
  }

  func knownDevice(_ requester: RequesterID) -> SMMUv3Device? { devices.withLock { $0[requester] } }

  private func isCoherent(_ requester: RequesterID) -> Bool {
    knownDevice(requester)?.properties.isCoherent ?? true
  }

  // MARK: What a device and its unit can do

  /// MSI_IOVA_BASE, MSI_IOVA_LENGTH (arm-smmu-v3: arm_smmu_get_resv_regions()).
  package func reservedRegions(of device: RequesterID) -> [ReservedRegion] {
    [ReservedRegion(range: 0x0800_0000...0x080f_ffff, kind: .softwareMSI)]
  }

  /// arm-smmu-v3: arm_smmu_master_canwbs()
  package func enforcesCacheCoherency(for device: RequesterID) -> Bool { isCoherent(device) }

  /// arm-smmu-v3: arm_smmu_capable(). The driver enables the PASID permissions that the device has
  /// (arm_smmu_enable_pasid()).
  package func capabilities(of device: RequesterID) -> DeviceCapabilities {
    var capabilities: DeviceCapabilities = []
    if unit.capabilities.updatesDirtyState { capabilities.insert(.dirtyTracking) }
    guard let device = knownDevice(device) else { return capabilities }
    if device.supportsATS { capabilities.insert(.ats) }
    if device.properties.canExecute { capabilities.insert(.pasidExecute) }
    if device.properties.canBePrivileged { capabilities.insert(.pasidPrivileged) }
    return capabilities
  }

  /// arm-smmu-v3: arm_smmu_device_hw_probe()
  package func usablePASIDWidth(_ width: Int) -> Int? {
    min(width, unit.capabilities.substreamBits)
  }

  /// arm-smmu-v3: arm_smmu_hw_info()
  package func hardwareInfo(
    of device: RequesterID, type: UInt32
  ) throws(Errno) -> HardwareInfo? {
    if type == Tegra241VirtualIOMMU.hardwareInfoType, unit.virtualQueues.isPresent {
      return Tegra241VirtualIOMMU.hardwareInfo(of: unit.virtualQueues)
    }
    let idr = unit.capabilities.identification
    var info = iommu_hw_info_arm_smmuv3()
    info.idr = (idr[0], idr[1], idr[2], idr[3], idr[4], idr[5])
    info.iidr = unit.capabilities.implementation
    info.aidr = unit.capabilities.architecture
    return try HardwareInfo(
      requested: type, type: IOMMU_HW_INFO_TYPE_ARM_SMMUV3.rawValue, info)
  }

  // MARK: Domains

  /// arm-smmu-v3: arm_smmu_domain_alloc_paging_flags()
  package func makePagingDomain(
    _ flags: PagingDomainFlags, for device: RequesterID, data: UserData?
  ) throws(Errno) -> any PagingDomain {
    guard flags.isSubset(of: [.nestParent, .dirtyTracking, .pasid]), data == nil else {
      throw .notSupported
    }
    let capabilities = unit.capabilities
    let stage: SMMUv3PagingDomain.Stage
    switch flags {
    case []:
      stage = capabilities.stage1 ? .stage1 : .stage2
    case .nestParent:
      guard capabilities.nesting else { throw .notSupported }
      stage = .stage2
    case .dirtyTracking, [.dirtyTracking, .pasid], .pasid:
      guard capabilities.stage1 else { throw .notSupported }
      stage = .stage1
    default:
      throw .notSupported
    }
    return try SMMUv3PagingDomain(
      stage, isNestParent: flags.contains(.nestParent),
      tracksDirty: flags.contains(.dirtyTracking), driver: self)
  }

  // MARK: Attaching

  package func attach(
    _ new: DomainAttachment, to requester: RequesterID, pasid: PASID?,
    replacing _: DomainAttachment?
  ) throws(Errno) {
    let device = try findOrAddDevice(requester)
    switch (new.domain, pasid) {
    case (let domain as SMMUv3PagingDomain, nil):
      try device.attach(domain)
    case (let domain as SMMUv3PagingDomain, let pasid?):
      try device.attach(domain, pasid: pasid)
    case (let domain as SMMUv3NestedDomain, nil):
      try device.attach(domain)
    case (is SMMUv3NestedDomain, _):
      // A nested domain has no set_dev_pasid, so iommu_attach_device_pasid() fails.
      throw .notSupported
    default:
      throw .invalidArgument
    }
  }

  package func block(_ requester: RequesterID, pasid: PASID?) {
    guard let device = knownDevice(requester) else { return }
    if let pasid { device.block(pasid) } else { device.block() }
  }

  // MARK: vIOMMUs

  /// arm-smmu-v3: arm_smmu_get_viommu_size(). A guest must not be able to make DMA bypass the
  /// processor's caches, so the device must be coherent or stage 2 must force write-back.
  package func supportsVirtualIOMMU(type: UInt32, for device: RequesterID) -> Bool {
    let capabilities = unit.capabilities
    guard capabilities.nesting, isCoherent(device) || capabilities.forcedWriteBack else {
      return false
    }
    return type == IOMMU_VIOMMU_TYPE_ARM_SMMUV3.rawValue
      || type == Tegra241VirtualIOMMU.type && unit.virtualQueues.isPresent
  }

  /// arm-smmu-v3: arm_vsmmu_init()
  package func makeVirtualIOMMU(
    type: UInt32, on parent: any PagingDomain, for device: RequesterID,
    host: any VirtualIOMMUHost, data: UserData?
  ) throws(Errno) -> any VirtualIOMMU {
    guard let parent = parent as? SMMUv3PagingDomain, parent.driver === self else {
      throw .invalidArgument
    }
    let viommu = SMMUv3VirtualIOMMU(on: parent, host: host)
    guard type == Tegra241VirtualIOMMU.type else { return viommu }
    return try Tegra241VirtualIOMMU.make(viommu, data: data)
  }

  /// A nested domain's context descriptor table is a PASID table of the guest.
  package var hasUserPASIDTable: Bool { true }
}

extension DeviceProperties {
  /// Returns the properties that the unit lets the device have. A unit with the stall model `stall`
  /// stalls the transactions of every device, and a unit with the model `terminate` of none
  /// (arm-smmu-v3: arm_smmu_probe_device()).
  fileprivate func limited(to capabilities: SMMUv3Capabilities) -> DeviceProperties {
    var limited = self
    switch capabilities.stallModel {
    case .configurable: break
    case .stall: limited.canStall = true
    case .terminate: limited.canStall = false
    }
    return limited
  }
}

extension SMMUv3Capabilities {
  /// ARM_SMMU_FEAT_NESTING
  var nesting: Bool { stage1 && stage2 && !hasNestingErratum }

  /// Whether errata of the implementation make the driver do without nesting
  /// (arm-smmu-v3: arm_smmu_device_iidr_probe()).
  private var hasNestingErratum: Bool {
    // IIDR.Implementer: Arm
    guard implementation & 0xfff == 0x43b else { return false }
    let (variant, revision) = (implementation >> 16 & 0xf, implementation >> 12 & 0xf)
    switch implementation >> 20 {
    // MMU-600, erratum 1209401
    case 0x483: return variant < 2
    // MMU-700, errata 2268618 and 2812531
    case 0x487: return variant < 1 || revision < 1
    default: return false
    }
  }

  /// log2 of the granule of the driver's page tables: that of the host's pages if the unit has it,
  /// otherwise the smallest (io-pgtable-arm: arm_lpae_restrict_pgsizes()).
  var driverGranule: Int { granules.contains(12) ? 12 : granules.min() ?? 12 }
}

extension SMMUv3Unit {
  /// Executes legal commands of the driver.
  func submit(_ commands: [SMMUv3Command]) {
    do throws(CommandError) {
      try execute(commands)
    } catch {
      assertionFailure("an illegal command: \(error)")
    }
  }
}
