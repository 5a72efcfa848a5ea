// What the kernel's arm-smmu-v3 driver does for iommufd, on one unit: it keeps the stream table and the
// devices' context descriptors in physical memory, and tells the unit with commands what changed.
//
// A stream at rest has an entry that aborts. To attach is to write a context descriptor, a stream table
// entry or both; each is written whole, so a transaction goes through what was there or through what
// is. In this driver PASIDs are entries of the device's own descriptor table; a nested domain puts
// the guest's table in its place, so that PASIDs are the guest's affair.

internal import CUAPI
package import IOMMU
internal import Synchronization
package import SystemPackage

package final class SMMUv3Driver: IOMMUDriver {
  package let unit: SMMUv3Unit
  let memory: PhysicalMemory
  let streamTable: SMMUv3StreamTable
  /// ASIDs and VMIDs of paging domains. 0 is for descriptors without domain, and for streams without
  /// stage 2. arm-smmu-v3: arm_smmu_asid_xa, vmid_map
  let asids: LowestFreeIDs
  let vmids: LowestFreeIDs
  /// Virtual interfaces; 0 is the host's. tegra241-cmdqv: vintf_ids
  let interfaces: LowestFreeIDs
  private let devices = Mutex<[RequesterID: SMMUv3Device]>([:])
  fileprivate let sinks = Mutex(Sinks())

  fileprivate struct Sinks {
    var faults: FaultSink?
    var pageRequests: PageRequestSink?
  }

  /// Takes `unit` into use: DMA of every stream is aborted from now on.
  /// arm-smmu-v3: arm_smmu_device_reset()
  package init(unit: SMMUv3Unit, memory: PhysicalMemory) throws(Errno) {
    self.unit = unit
    self.memory = memory
    let capabilities = unit.capabilities
    // What xa_alloc() and ida_alloc_range() say when there is none left.
    asids = LowestFreeIDs(1..<1 << capabilities.asidBits, exhausted: .resourceBusy)
    vmids = LowestFreeIDs(1..<1 << capabilities.vmidBits, exhausted: .noSpace)
    interfaces = LowestFreeIDs(1..<1 << unit.virtualQueues.interfaceBits, exhausted: .noSpace)
    streamTable = try SMMUv3StreamTable(
      sizeBits: capabilities.streamBits, isTwoLevel: capabilities.twoLevelStreamTable,
      memory: memory)
    unit.enable(streamTable.description)
    unit.submit([.invalidateAllStreams, .tlbi(.tlbiEverything)])
    unit.setFaultSink { [weak self] record in self?.handleEvents(record) }
  }

  /// What firmware and the device itself say of it.
  package struct DeviceProperties: Sendable {
    /// log2 of its PASIDs; 0: no PASID capability.
    package var pasidBits = 0
    /// Its accesses, those without snooping too, are coherent (IORT: CANWBS).
    package var isCoherent = true
    /// "dma-can-stall"
    package var canStall = false
    /// The device and the root complex above it have ATS (IORT: ATS attribute).
    package var hasATS = false

    package init() {}
  }

  /// Makes a device known. arm-smmu-v3: arm_smmu_probe_device()
  /// - Throws: `.outOfRange` for a stream id that the unit does not have, `.noMemory`.
  package func probe(
    _ device: RequesterID, _ properties: DeviceProperties = .init()
  ) throws(Errno) {
    let place = try streamTable.place(of: device)
    let made = SMMUv3Device(device, entry: place, properties, driver: self)
    devices.withLock { $0[device] = made }
  }

  /// Sets how ATS is switched on and off in the device's configuration space.
  package func setATSControl(
    of device: RequesterID, _ control: @escaping @Sendable (Bool) -> Void
  ) {
    knownDevice(device)?.setATSControl(control)
  }

  /// A device that is attached without having been probed has no properties.
  func device(_ requester: RequesterID) throws(Errno) -> SMMUv3Device {
    if let device = knownDevice(requester) { return device }
    try probe(requester)
    guard let device = knownDevice(requester) else { throw .operationNotSupportedByDevice }
    return device
  }

  func knownDevice(_ requester: RequesterID) -> SMMUv3Device? { devices.withLock { $0[requester] } }

  private func isCoherent(_ requester: RequesterID) -> Bool {
    knownDevice(requester)?.properties.isCoherent ?? true
  }

  // MARK: What a device and its unit can do

  /// MSI_IOVA_BASE, MSI_IOVA_LENGTH. arm-smmu-v3: arm_smmu_get_resv_regions()
  package func reservedRegions(of device: RequesterID) -> [ReservedRegion] {
    [ReservedRegion(range: 0x0800_0000...0x080f_ffff, kind: .softwareMSI)]
  }

  /// arm-smmu-v3: arm_smmu_master_canwbs()
  package func enforcesCacheCoherency(for device: RequesterID) -> Bool { isCoherent(device) }

  /// arm-smmu-v3: arm_smmu_capable()
  package func capabilities(of device: RequesterID) -> DeviceCapabilities {
    var capabilities: DeviceCapabilities = []
    if unit.capabilities.updatesDirtyState { capabilities.insert(.dirtyTracking) }
    if knownDevice(device)?.supportsATS == true { capabilities.insert(.ats) }
    return capabilities
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
      asked: type, type: IOMMU_HW_INFO_TYPE_ARM_SMMUV3.rawValue, info)
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
      stage, isNestingParent: flags.contains(.nestParent),
      tracksDirty: flags.contains(.dirtyTracking), driver: self)
  }

  package func attach(
    _ new: DomainAttachment, to requester: RequesterID, pasid: PASID?,
    replacing _: DomainAttachment?
  ) throws(Errno) {
    let device = try device(requester)
    switch (new.domain, pasid) {
    case (let domain as SMMUv3PagingDomain, nil):
      try device.attach(domain, new)
    case (let domain as SMMUv3PagingDomain, let pasid?):
      try device.attach(domain, new, pasid: pasid)
    case (let domain as SMMUv3NestedDomain, nil):
      try device.attach(domain, new)
    case (is SMMUv3NestedDomain, _):
      // There is no set_dev_pasid: iommu_attach_device_pasid()
      throw .notSupported
    default:
      throw .invalidArgument
    }
  }

  package func block(_ requester: RequesterID, pasid: PASID?) {
    guard let device = knownDevice(requester) else { return }
    if let pasid { device.block(pasid) } else { device.block() }
  }

  // MARK: Virtual units

  /// arm-smmu-v3: arm_smmu_get_viommu_size(). A guest must not be able to have DMA pass by the
  /// caches: the device is coherent, or stage 2 forces it.
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
    let guest = SMMUv3VirtualIOMMU(on: parent, host: host)
    guard type == Tegra241VirtualIOMMU.type else { return guest }
    return try Tegra241VirtualIOMMU.make(guest, data: data)
  }

  // MARK: Events

  package func setFaultSink(_ sink: FaultSink?) { sinks.withLock { $0.faults = sink } }

  package func setPageRequestSink(_ sink: PageRequestSink?) {
    sinks.withLock { $0.pageRequests = sink }
  }

  /// iommu_ops.user_pasid_table
  package var hasUserPASIDTable: Bool { true }

  /// The interrupt handler of the event queue. arm-smmu-v3: arm_smmu_evtq_thread()
  private func handleEvents(_ record: FaultRecord) {
    for event in unit.consumeEvents() { handle(event) }
    sinks.withLock { $0.faults }?(record)
  }

  /// arm-smmu-v3: arm_smmu_handle_event(), arm_vmaster_report_event()
  private func handle(_ event: SMMUv3EventRecord) {
    switch SMMUv3Event.Kind(rawValue: event.kind) {
    case .badStreamEntry, .streamDisabled, .badSubstreamID, .badContext, .translation,
      .addressSize, .access, .permission:
      break
    default:
      return
    }
    let stream = RequesterID(rawValue: UInt16(truncatingIfNeeded: event.stream.rawValue))
    if event.isStalled { return handleStall(event, of: stream) }
    guard !event.isStage2, let guest = knownDevice(stream)?.guest else { return }
    var told = event
    told.stream = StreamID(rawValue: UInt32(truncatingIfNeeded: guest.stream))
    let bytes = withUnsafeBytes(of: told.words) { Array($0) }
    do throws(Errno) {
      try guest.unit.host.report(bytes, type: IOMMU_VEVENTQ_TYPE_ARM_SMMUV3.rawValue)
    } catch {
      // The guest has no queue for events: the kernel would print this one.
      return
    }
  }
}

extension SMMUv3Driver {
  /// A stalled transaction is a page request of its own: a group of one, which its tag names.
  private func handleStall(_ event: SMMUv3EventRecord, of stream: RequesterID) {
    var access: PageRequestAccess = event.isRead ? .read : .write
    if event.isInstruction { access.insert(.execute) }
    if event.isPrivileged { access.insert(.privileged) }
    let request = PageRequest(
      requester: stream, pasid: event.substream, group: UInt32(event.stallTag),
      address: event.address, access: access, isLast: true)
    guard let sink = sinks.withLock({ $0.pageRequests }) else {
      return respond(to: request.groupID, .invalid)
    }
    sink(request)
  }

  /// arm-smmu-v3: arm_smmu_page_response()
  package func respond(to group: PageRequestGroupID, _ response: PageResponse) {
    guard knownDevice(group.requester)?.properties.canStall == true else { return }
    let resumption: SMMUv3Command.ResumeResponse = response == .success ? .retry : .abort
    unit.submit([
      .resume(
        StreamID(group.requester), tag: UInt16(truncatingIfNeeded: group.group),
        resumption)
    ])
  }
}

extension SMMUv3Capabilities {
  /// ARM_SMMU_FEAT_NESTING
  var nesting: Bool { stage1 && stage2 }
}

extension SMMUv3Unit {
  /// Commands of the driver's own, which are legal.
  func submit(_ commands: [SMMUv3Command]) {
    do throws(CommandError) {
      try execute(commands)
    } catch {
      assertionFailure("an illegal command: \(error)")
    }
  }
}
