// One device behind an SMMUv3 (struct arm_smmu_master): its stream table entry, its context descriptors,
// and what it is attached to. The steps are those of arm_smmu_attach_prepare() to _commit(): what can
// fail comes first; then structures change, and the unit forgets the old ones; then whoever
// attached last to the old domain has its translations dropped.

internal import IOMMU
internal import Synchronization
internal import SystemPackage

final class SMMUv3Device: Sendable {
  /// The guest whose structures the device uses (struct arm_smmu_vmaster).
  struct Guest: Sendable {
    let unit: SMMUv3VirtualIOMMU
    /// What the guest knew the device as when it was attached.
    let stream: UInt64
  }

  /// What transactions without PASID go through.
  fileprivate enum Plain {
    case blocked
    case paging(SMMUv3PagingDomain)
    case nested(SMMUv3NestedDomain)

    var paging: SMMUv3PagingDomain? {
      switch self {
      case .blocked: nil
      case .paging(let domain): domain
      case .nested(let domain): domain.parent
      }
    }
  }

  fileprivate struct State {
    var contexts: SMMUv3ContextTable?
    var plain = Plain.blocked
    var pasids: [UInt32: SMMUv3PagingDomain] = [:]
    /// Transactions may go by translations that the device has itself.
    var usesATS = false
    var atsControl: (@Sendable (Bool) -> Void)?
    /// The stream table entry names the driver's own descriptors (cd_table.in_ste).
    var usesOwnContexts = false
  }

  let properties: SMMUv3Driver.DeviceProperties
  private let requester: RequesterID
  private let entry: PhysicalAddress
  private unowned let driver: SMMUv3Driver
  private let state = Mutex(State())
  /// Apart, as whoever handles events asks for it, and may hold what a change of `state` waits for.
  private let currentGuest = Mutex<Guest?>(nil)

  init(
    _ requester: RequesterID, entry: PhysicalAddress,
    _ properties: SMMUv3Driver.DeviceProperties, driver: SMMUv3Driver
  ) {
    self.requester = requester
    self.entry = entry
    self.properties = properties
    self.driver = driver
  }

  var guest: Guest? { currentGuest.withLock { $0 } }

  func setATSControl(_ control: @escaping @Sendable (Bool) -> Void) {
    state.withLock { $0.atsControl = control }
  }

  /// arm-smmu-v3: arm_smmu_ats_supported()
  var supportsATS: Bool { driver.unit.capabilities.ats && properties.hasATS }

  /// arm_smmu_master.ssid_bits
  private var pasidBits: Int {
    let bits = min(properties.pasidBits, driver.unit.capabilities.substreamBits)
    // CTXDESC_LINEAR_CDMAX: a linear table is kept at 64 KiB.
    return driver.unit.capabilities.twoLevelContextTable ? bits : min(bits, 10)
  }

  // MARK: Without PASID

  /// arm-smmu-v3: arm_smmu_attach_dev()
  func attach(_ domain: SMMUv3PagingDomain, _ attachment: DomainAttachment) throws(Errno) {
    guard domain.driver === driver else { throw .invalidArgument }
    let old = try state.withLock { state throws(Errno) -> SMMUv3PagingDomain? in
      switch domain.stage {
      case .stage1: try reserveDescriptor(0, in: &state)
      case .stage2: guard !state.hasPASIDs else { throw .resourceBusy }
      }
      try domain.addUser(isCoherent: properties.isCoherent)
      switch domain.stage {
      case .stage1:
        store(makeDescriptor(of: domain), for: 0, in: &state)
        install(makeContextEntry(.substream0, state), ats: supportsATS, in: &state)
      case .stage2:
        install(makeStage2Entry(domain), ats: supportsATS, in: &state)
        store(nil, for: 0, in: &state)
      }
      return replacePlain(.paging(domain), guest: nil, in: &state)
    }
    old?.dropUser()
  }

  /// arm-smmu-v3: arm_smmu_attach_dev_nested()
  func attach(_ domain: SMMUv3NestedDomain, _ attachment: DomainAttachment) throws(Errno) {
    guard domain.parent.driver === driver else { throw .invalidArgument }
    let old = try state.withLock { state throws(Errno) -> SMMUv3PagingDomain? in
      guard !state.hasPASIDs else { throw .resourceBusy }
      let guest = try guest(of: domain)
      try domain.parent.addUser(isCoherent: properties.isCoherent)
      // Without ATS of its own the guest does not know what to invalidate.
      let isTranslating = domain.configuration == .stage1
      install(
        makeNestedEntry(domain), ats: supportsATS && (!isTranslating || domain.enablesATS),
        in: &state)
      return replacePlain(.nested(domain), guest: guest, in: &state)
    }
    old?.dropUser()
  }

  /// Events and invalidations need the guest's name of the device; only a guest that does not
  /// translate can be without. arm-smmu-v3: arm_smmu_attach_prepare_vmaster()
  private func guest(of domain: SMMUv3NestedDomain) throws(Errno) -> Guest? {
    if let stream = domain.unit.host.virtualID(of: requester) {
      return Guest(unit: domain.unit, stream: stream)
    }
    guard domain.configuration != .stage1 else { throw .noSuchFileOrDirectory }
    return nil
  }

  /// arm-smmu-v3: arm_smmu_attach_dev_blocked(), arm_smmu_attach_dev_ste()
  func block() {
    let old = state.withLock { state -> SMMUv3PagingDomain? in
      currentGuest.withLock { $0 = nil }
      if state.hasPASIDs {
        install(makeContextEntry(.terminate, state), ats: supportsATS, in: &state)
      } else {
        install(.aborting, ats: false, in: &state)
      }
      let old = replacePlain(.blocked, guest: nil, in: &state)
      store(nil, for: 0, in: &state)
      return old
    }
    old?.dropUser()
  }

  private func replacePlain(
    _ new: Plain, guest: Guest?, in state: inout State
  ) -> SMMUv3PagingDomain? {
    let old = state.plain.paging
    state.plain = new
    currentGuest.withLock { $0 = guest }
    old?.removeATSUser(.init(stream: stream, pasid: nil))
    if state.usesATS { new.paging?.addATSUser(.init(stream: stream, pasid: nil)) }
    return old
  }

  // MARK: With PASID

  /// arm-smmu-v3: arm_smmu_s1_set_dev_pasid(), arm_smmu_set_pasid()
  func attach(
    _ domain: SMMUv3PagingDomain, _ attachment: DomainAttachment, pasid: PASID
  ) throws(Errno) {
    guard domain.driver === driver, domain.stage == .stage1 else { throw .invalidArgument }
    let old = try state.withLock { state throws(Errno) -> SMMUv3PagingDomain? in
      guard state.usesOwnContexts || state.isBlocked else { throw .invalidArgument }
      try reserveDescriptor(pasid.rawValue, in: &state)
      try domain.addUser(isCoherent: properties.isCoherent)
      store(makeDescriptor(of: domain), for: pasid.rawValue, in: &state)
      if !state.usesOwnContexts {
        install(makeContextEntry(.terminate, state), ats: supportsATS, in: &state)
      }
      let old = state.pasids.updateValue(domain, forKey: pasid.rawValue)
      exchangeATSUser(from: old, to: domain, pasid.rawValue, in: &state)
      return old
    }
    old?.dropUser()
  }

  /// arm-smmu-v3: arm_smmu_blocking_set_dev_pasid()
  func block(_ pasid: PASID) {
    let old = state.withLock { state -> SMMUv3PagingDomain? in
      store(nil, for: pasid.rawValue, in: &state)
      let old = state.pasids.removeValue(forKey: pasid.rawValue)
      exchangeATSUser(from: old, to: nil, pasid.rawValue, in: &state)
      // The last one takes the descriptors away.
      if state.isBlocked, !state.hasPASIDs { install(.aborting, ats: false, in: &state) }
      return old
    }
    old?.dropUser()
  }

  /// What the device has translated with the PASID is forgotten.
  private func exchangeATSUser(
    from old: SMMUv3PagingDomain?, to new: SMMUv3PagingDomain?, _ pasid: UInt32,
    in state: inout State
  ) {
    let user = SMMUv3ATSUser(stream: stream, pasid: PASID(rawValue: pasid))
    old?.removeATSUser(user)
    guard state.usesATS else { return }
    new?.addATSUser(user)
    driver.unit.submit([
      .invalidateATC(stream, pasid: user.pasid, address: IOVA(0), sizeShift: 64), .sync,
    ])
  }

  // MARK: Structures

  private func reserveDescriptor(_ pasid: UInt32, in state: inout State) throws(Errno) {
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
        .invalidateContext(stream, substream: PASID(rawValue: pasid), isLeaf: false), .sync,
      ])
    }
  }

  private var stream: StreamID { StreamID(requester) }

  private func store(
    _ descriptor: ContextDescriptor?, for pasid: UInt32, in state: inout State
  ) {
    guard state.contexts != nil else { return }
    state.contexts?.store(descriptor, for: pasid)
    driver.unit.submit([
      .invalidateContext(stream, substream: PASID(rawValue: pasid), isLeaf: true), .sync,
    ])
  }

  /// The device stops using ATS before the stream table entry forbids it, and begins after the entry
  /// allows it. arm-smmu-v3: arm_smmu_install_ste_for_dev(), arm_smmu_attach_commit()
  private func install(_ entry: StreamTableEntry, ats: Bool, in state: inout State) {
    var entry = entry
    entry.ats = ats && entry.configuration != .abort ? 1 : 0
    let usedATS = state.usesATS
    if usedATS && !ats { state.atsControl?(false) }
    state.usesOwnContexts = entry.configuration == .stage1
    driver.memory.storeEntry(entry.words, at: self.entry)
    driver.unit.submit([.invalidateStream(stream), .sync])
    if ats || usedATS {
      driver.unit.submit([
        .invalidateATC(stream, pasid: nil, address: IOVA(0), sizeShift: 64), .sync,
      ])
    }
    if ats && !usedATS { state.atsControl?(true) }
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
  private func makeContextEntry(
    _ plain: StreamTableEntry.DefaultSubstream, _ state: State
  ) -> StreamTableEntry {
    var entry = StreamTableEntry()
    entry.isValid = true
    entry.configuration = .stage1
    if let contexts = state.contexts {
      entry.descriptorTable = contexts.format
      entry.descriptors = contexts.base.rawValue
      entry.descriptorBits = contexts.sizeBits
    }
    entry.defaultSubstream = plain
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

extension SMMUv3Device.State {
  fileprivate var hasPASIDs: Bool { contexts.map { !$0.used.isEmpty } ?? false }
  fileprivate var isBlocked: Bool {
    if case .blocked = plain { true } else { false }
  }
}
