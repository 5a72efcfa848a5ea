// SPDX-License-Identifier: Apache-2.0

// One device behind an SMMUv3 (struct arm_smmu_master): its stream table entry, its context
// descriptors, and its attachments. An attach has the steps of arm_smmu_attach_prepare() to
// arm_smmu_attach_commit(). First comes everything that can fail. Then the structures change and
// the unit invalidates its copies of them. When the device was the last user of the old domain, the
// translations of the old domain are invalidated at the end.

internal import IOMMU
internal import Synchronization
internal import SystemPackage

final class SMMUv3Device: Sendable {
  /// The vIOMMU of the nested domain that the device is attached to (struct arm_smmu_vmaster).
  struct VirtualMaster: Sendable {
    let viommu: SMMUv3VirtualIOMMU
    /// The stream ID that the guest had for the device at the attach.
    let stream: UInt64
  }

  /// The attachment of transactions without PASID.
  private enum Attachment {
    case blocked
    case paging(SMMUv3PagingDomain)
    case nested(SMMUv3NestedDomain)

    /// The paging domain whose page table the device uses: its own or its nested domain's parent.
    var tableDomain: SMMUv3PagingDomain? {
      switch self {
      case .blocked: nil
      case .paging(let domain): domain
      case .nested(let domain): domain.parent
      }
    }
  }

  private struct State {
    var contexts: SMMUv3ContextTable?
    var attachment = Attachment.blocked
    var pasidDomains: [PASID: SMMUv3PagingDomain] = [:]
    /// Whether the device uses ATS, and so can have translations in its device TLB.
    var usesATS = false
    var serviceControl: TranslationServiceControl?
    /// Whether the stream table entry points to `contexts` (cd_table.in_ste).
    var usesOwnContexts = false

    var hasPASIDs: Bool { contexts.map { !$0.used.isEmpty } ?? false }
    var isBlocked: Bool {
      if case .blocked = attachment { true } else { false }
    }
  }

  /// The context descriptor of transactions without PASID is that of substream 0.
  private static let substream0 = PASID(rawValue: 0)

  let properties: DeviceProperties
  private let requester: RequesterID
  private let entry: PhysicalAddress
  private unowned let driver: SMMUv3Driver
  private let state = Mutex(State())
  /// It has a lock of its own, because the event handler reads it, and the event handler can hold a
  /// lock that a change of `state` waits for.
  private let currentMaster = Mutex<VirtualMaster?>(nil)

  init(
    _ requester: RequesterID, entry: PhysicalAddress, _ properties: DeviceProperties,
    driver: SMMUv3Driver
  ) {
    self.requester = requester
    self.entry = entry
    self.properties = properties
    self.driver = driver
  }

  var virtualMaster: VirtualMaster? { currentMaster.withLock { $0 } }

  func setServiceControl(_ control: @escaping TranslationServiceControl) {
    state.withLock { $0.serviceControl = control }
  }

  /// arm-smmu-v3: arm_smmu_ats_supported()
  var supportsATS: Bool { driver.unit.capabilities.ats && properties.hasATS }

  /// arm_smmu_master.ssid_bits
  private var pasidBits: Int {
    let bits = min(properties.pasidBits, driver.unit.capabilities.substreamBits)
    // CTXDESC_LINEAR_CDMAX limits a linear table to 64 KiB.
    return driver.unit.capabilities.twoLevelContextTable ? bits : min(bits, 10)
  }

  // MARK: Without PASID

  /// arm-smmu-v3: arm_smmu_attach_dev()
  func attach(_ domain: SMMUv3PagingDomain) throws(Errno) {
    guard domain.driver === driver else { throw .invalidArgument }
    let old = try state.withLock { state throws(Errno) -> SMMUv3PagingDomain? in
      switch domain.stage {
      case .stage1: try reserveDescriptor(Self.substream0, in: &state)
      case .stage2: guard !state.hasPASIDs else { throw .resourceBusy }
      }
      try domain.addUser(isCoherent: properties.isCoherent)
      switch domain.stage {
      case .stage1:
        store(makeDescriptor(of: domain), for: Self.substream0, in: &state)
        install(makeContextEntry(.substream0, state), ats: supportsATS, in: &state)
      case .stage2:
        install(makeStage2Entry(domain), ats: supportsATS, in: &state)
        store(nil, for: Self.substream0, in: &state)
      }
      return replaceAttachment(.paging(domain), virtualMaster: nil, in: &state)
    }
    old?.removeUser()
  }

  /// arm-smmu-v3: arm_smmu_attach_dev_nested()
  func attach(_ domain: SMMUv3NestedDomain) throws(Errno) {
    guard domain.parent.driver === driver else { throw .invalidArgument }
    let old = try state.withLock { state throws(Errno) -> SMMUv3PagingDomain? in
      guard !state.hasPASIDs else { throw .resourceBusy }
      let virtualMaster = try makeVirtualMaster(domain)
      try domain.parent.addUser(isCoherent: properties.isCoherent)
      // A guest that has not enabled ATS itself does not send ATC invalidations.
      let isTranslating = domain.configuration == .stage1
      install(
        makeNestedEntry(domain), ats: supportsATS && (!isTranslating || domain.enablesATS),
        in: &state)
      return replaceAttachment(.nested(domain), virtualMaster: virtualMaster, in: &state)
    }
    old?.removeUser()
  }

  /// Events and invalidations need the guest's stream ID of the device. Only a guest without stage
  /// 1 translation can attach a device without a vDEVICE (arm-smmu-v3:
  /// arm_smmu_attach_prepare_vmaster()).
  private func makeVirtualMaster(_ domain: SMMUv3NestedDomain) throws(Errno) -> VirtualMaster? {
    if let stream = domain.viommu.host.virtualID(of: requester) {
      return VirtualMaster(viommu: domain.viommu, stream: stream)
    }
    guard domain.configuration != .stage1 else { throw .noSuchFileOrDirectory }
    return nil
  }

  /// arm-smmu-v3: arm_smmu_attach_dev_blocked(), arm_smmu_attach_dev_ste()
  func block() {
    let old = state.withLock { state -> SMMUv3PagingDomain? in
      currentMaster.withLock { $0 = nil }
      if state.hasPASIDs {
        install(makeContextEntry(.terminate, state), ats: supportsATS, in: &state)
      } else {
        install(.aborting, ats: false, in: &state)
      }
      let old = replaceAttachment(.blocked, virtualMaster: nil, in: &state)
      store(nil, for: Self.substream0, in: &state)
      return old
    }
    old?.removeUser()
  }

  /// - Returns: The paging domain whose page table the device has used so far.
  private func replaceAttachment(
    _ new: Attachment, virtualMaster: VirtualMaster?, in state: inout State
  ) -> SMMUv3PagingDomain? {
    let old = state.attachment.tableDomain
    state.attachment = new
    currentMaster.withLock { $0 = virtualMaster }
    old?.removeATSUser(.init(stream: stream, pasid: nil))
    if state.usesATS { new.tableDomain?.addATSUser(.init(stream: stream, pasid: nil)) }
    return old
  }

  // MARK: With PASID

  /// arm-smmu-v3: arm_smmu_s1_set_dev_pasid(), arm_smmu_set_pasid()
  func attach(_ domain: SMMUv3PagingDomain, pasid: PASID) throws(Errno) {
    guard domain.driver === driver, domain.stage == .stage1 else { throw .invalidArgument }
    let old = try state.withLock { state throws(Errno) -> SMMUv3PagingDomain? in
      guard state.usesOwnContexts || state.isBlocked else { throw .invalidArgument }
      try reserveDescriptor(pasid, in: &state)
      try domain.addUser(isCoherent: properties.isCoherent)
      store(makeDescriptor(of: domain), for: pasid, in: &state)
      if !state.usesOwnContexts {
        install(makeContextEntry(.terminate, state), ats: supportsATS, in: &state)
      }
      let old = state.pasidDomains.updateValue(domain, forKey: pasid)
      exchangeATSUser(from: old, to: domain, pasid, in: &state)
      return old
    }
    old?.removeUser()
  }

  /// arm-smmu-v3: arm_smmu_blocking_set_dev_pasid()
  func block(_ pasid: PASID) {
    let old = state.withLock { state -> SMMUv3PagingDomain? in
      store(nil, for: pasid, in: &state)
      let old = state.pasidDomains.removeValue(forKey: pasid)
      exchangeATSUser(from: old, to: nil, pasid, in: &state)
      // Without any attachment the stream table entry aborts and points to no context descriptors.
      if state.isBlocked, !state.hasPASIDs { install(.aborting, ats: false, in: &state) }
      return old
    }
    old?.removeUser()
  }

  /// Invalidates the device TLB for `pasid`, and records which domain invalidates it from now on.
  private func exchangeATSUser(
    from old: SMMUv3PagingDomain?, to new: SMMUv3PagingDomain?, _ pasid: PASID,
    in state: inout State
  ) {
    let user = SMMUv3ATSUser(stream: stream, pasid: pasid)
    old?.removeATSUser(user)
    guard state.usesATS else { return }
    new?.addATSUser(user)
    driver.unit.submit([
      .invalidateATC(stream, pasid: pasid, address: IOVA(0), sizeShift: 64), .sync,
    ])
  }

  // MARK: Structures

  /// Allocates memory for the context descriptor of `pasid`, so that ``store(_:for:in:)`` cannot
  /// fail.
  private func reserveDescriptor(_ pasid: PASID, in state: inout State) throws(Errno) {
    var contexts: SMMUv3ContextTable
    if let existing = state.contexts {
      contexts = existing
    } else {
      contexts = try SMMUv3ContextTable(
        sizeBits: pasidBits, isTwoLevel: driver.unit.capabilities.twoLevelContextTable,
        memory: driver.memory)
      state.contexts = contexts
    }
    let isLinked = try contexts.reserve(pasid)
    state.contexts = contexts
    if isLinked {
      driver.unit.submit([
        .invalidateContext(stream, substream: pasid, isLeaf: false), .sync,
      ])
    }
  }

  private var stream: StreamID { StreamID(requester) }

  private func store(
    _ descriptor: ContextDescriptor?, for pasid: PASID, in state: inout State
  ) {
    guard state.contexts != nil else { return }
    state.contexts?.store(descriptor, for: pasid)
    driver.unit.submit([
      .invalidateContext(stream, substream: pasid, isLeaf: true), .sync,
    ])
  }

  /// Writes the stream table entry. The device stops using ATS before the entry forbids ATS, and
  /// starts after the entry allows it (arm-smmu-v3: arm_smmu_install_ste_for_dev(),
  /// arm_smmu_attach_commit()).
  private func install(_ entry: StreamTableEntry, ats: Bool, in state: inout State) {
    var entry = entry
    entry.ats = ats && entry.configuration != .abort ? 1 : 0
    let usedATS = state.usesATS
    if usedATS && !ats { state.serviceControl?([]) }
    state.usesOwnContexts = entry.configuration == .stage1
    driver.memory.storeEntry(entry.words, at: self.entry)
    driver.unit.submit([.invalidateStream(stream), .sync])
    if ats || usedATS {
      driver.unit.submit([
        .invalidateATC(stream, pasid: nil, address: IOVA(0), sizeShift: 64), .sync,
      ])
    }
    if ats && !usedATS { state.serviceControl?(.ats) }
    state.usesATS = ats
  }

  /// arm-smmu-v3: arm_smmu_make_s1_cd()
  private func makeDescriptor(of domain: SMMUv3PagingDomain) -> ContextDescriptor {
    var descriptor = ContextDescriptor()
    domain.fill(&descriptor)
    descriptor.setTableAttributes(inner: 1, outer: 1, sharing: 3)
    descriptor.disablesUpperWalks = true
    descriptor.isValid = true
    descriptor.usesAArch64Tables = true
    descriptor.stallsFaults = properties.canStall
    descriptor.recordsFaults = true
    descriptor.abortsFaults = true
    descriptor.isPrivate = true
    return descriptor
  }

  /// arm-smmu-v3: arm_smmu_make_cdtable_ste()
  /// - Parameter defaultSubstream: STE.S1DSS: what happens to transactions without PASID.
  private func makeContextEntry(
    _ defaultSubstream: StreamTableEntry.DefaultSubstream, _ state: State
  ) -> StreamTableEntry {
    var entry = StreamTableEntry()
    entry.isValid = true
    entry.configuration = .stage1
    if let contexts = state.contexts {
      entry.descriptorTable = contexts.format
      entry.descriptors = contexts.base.rawValue
      entry.descriptorBits = contexts.sizeBits
    }
    entry.defaultSubstream = defaultSubstream
    entry.setDescriptorAttributes(inner: 1, outer: 1, sharing: 3)
    entry.disablesStalls =
      driver.unit.capabilities.stallModel == .configurable && !properties.canStall
    return entry
  }

  /// arm-smmu-v3: arm_smmu_make_s2_domain_ste()
  private func makeStage2Entry(_ domain: SMMUv3PagingDomain) -> StreamTableEntry {
    var entry = StreamTableEntry()
    entry.isValid = true
    entry.configuration = .stage2
    domain.fill(&entry)
    entry.sharing = 1
    entry.setTableAttributes(inner: 1, outer: 1, sharing: 3)
    entry.usesAArch64Tables = true
    entry.protectsTableWalks = true
    entry.stallsFaults = properties.canStall
    entry.recordsFaults = true
    return entry
  }

  /// arm-smmu-v3: arm_smmu_make_nested_domain_ste()
  private func makeNestedEntry(_ domain: SMMUv3NestedDomain) -> StreamTableEntry {
    switch domain.configuration {
    case .bypass:
      return makeStage2Entry(domain.parent)
    case .stage1:
      var entry = makeStage2Entry(domain.parent)
      entry.words[0] = domain.guestEntry.words[0]
      entry.words[1] |= domain.guestEntry.words[1]
      entry.isValid = true
      entry.configuration = .nested
      entry.mergesEvents = true
      return entry
    default:
      return .aborting
    }
  }
}
