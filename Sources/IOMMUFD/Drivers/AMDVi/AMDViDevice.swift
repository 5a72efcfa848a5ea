// SPDX-License-Identifier: Apache-2.0

// One device behind an AMD-Vi unit (struct iommu_dev_data): its device table entry and its
// attachment.
//
// Locking: the lock of a device comes before the lock of a domain. So a domain whose table or dirty
// tracking changes releases its own lock before its devices write their device table entries again.

internal import IOMMU
internal import Synchronization
internal import SystemPackage

final class AMDViDevice: Sendable {
  /// The device table entry of a device without attachment. It has no translation, so every request
  /// faults (amd: amd_iommu_make_clear_dte()).
  static let clearEntry: DeviceTableEntry = {
    var entry = DeviceTableEntry()
    entry.isValid = true
    return entry
  }()

  private enum Attachment {
    case blocked
    case host(AMDViPagingDomain)
    case guest(AMDViPagingDomain, AMDViGuestCR3Table)
    case nested(AMDViNestedDomain)

    /// The paging domain that the device is attached to. `nil` for a nested domain.
    var pagingDomain: AMDViPagingDomain? {
      switch self {
      case .blocked, .nested: nil
      case .host(let domain), .guest(let domain, _): domain
      }
    }

    /// The paging domain whose page table the device uses: its own or its nested domain's parent.
    var tableDomain: AMDViPagingDomain? {
      if case .nested(let domain) = self { domain.parent } else { pagingDomain }
    }
  }

  /// What a domain that invalidates needs to know of the device. It has a lock of its own, because
  /// the domain does not hold the device's lock.
  private struct FlushTargets {
    /// The domain ID of the device's own GCR3 table while the device has one (gcr3_tbl_info.domid).
    var guestCR3Domain: DomainID?
    /// Whether the function's device TLB can have translations.
    var hasDeviceTLB = false
    /// Whether these translations are of guest addresses, because a guest's GCR3 table is in front
    /// of the domain.
    var isNested = false
  }

  /// The closure is a member of a struct, so that an access by `inout` does not wrap it.
  private struct ServiceControl {
    /// `nil` until ``setServiceControl(_:)``.
    var control: TranslationServiceControl?
  }

  /// The properties of the device that the unit supports.
  let properties: DeviceProperties
  private let requester: RequesterID
  private let entry: PhysicalAddress
  unowned let driver: AMDViDriver
  private let state = Mutex(Attachment.blocked)
  private let flushTargets = Mutex(FlushTargets())
  private let serviceControl = Mutex(ServiceControl())

  init(
    _ requester: RequesterID, entry: PhysicalAddress, _ properties: DeviceProperties,
    driver: AMDViDriver
  ) {
    self.requester = requester
    self.entry = entry
    self.properties = properties
    self.driver = driver
  }

  func setServiceControl(_ control: @escaping TranslationServiceControl) {
    serviceControl.withLock { $0.control = control }
  }

  var guestCR3Domain: DomainID? { flushTargets.withLock { $0.guestCR3Domain } }

  /// Returns the command that invalidates a range of the domain's addresses in the device TLB, or
  /// `nil` when the function has none (amd: device_flush_iotlb()).
  func flushCommand(_ range: AMDViPageRange, isGuest: Bool) -> AMDViCommand? {
    flushTargets.withLock { targets in
      guard targets.hasDeviceTLB else { return nil }
      // The device TLB of a nested device has guest addresses, so a range of host addresses
      // invalidates all of them.
      return .invalidateDeviceTLB(
        targets.isNested ? .everything : range, of: requester,
        pasid: isGuest ? PASID(rawValue: 0) : nil)
    }
  }

  // MARK: Attaching

  /// amd: amd_iommu_attach_device()
  func attach(_ domain: AMDViPagingDomain) throws(Errno) {
    try state.withLock { state throws(Errno) in
      // Attaching to the same domain changes nothing.
      if state.pagingDomain === domain { return }
      // amd: amd_iommu_hd_support() looks at the unit of the device.
      guard !domain.tracksDirty || driver.unit.capabilities.hostFlags else {
        throw .invalidArgument
      }
      switch domain.mode {
      case .host:
        exchange(&state, .host(domain))
      case .guest:
        let table = try AMDViGuestCR3Table(
          pasidBits: properties.pasidBits, root: domain.root, driver: driver)
        exchange(&state, .guest(domain, table))
      }
    }
  }

  /// amd: nested_attach_device()
  func attach(_ domain: AMDViNestedDomain) throws(Errno) {
    try state.withLock { state throws(Errno) in
      // A domain with a guest table has enabled the function's PASIDs.
      if case .guest = state, properties.pasidBits > 0 { throw .invalidArgument }
      exchange(&state, .nested(domain))
    }
  }

  /// amd: blocked_domain_attach_device()
  func block() {
    state.withLock { state in
      if case .blocked = state { return }
      exchange(&state, .blocked)
    }
  }

  /// Writes the device table entry again after a change of the domain.
  func refresh() { state.withLock { write($0) } }

  /// Replaces the attachment: writes the entry, then invalidates what the unit has cached through
  /// the old one. Cannot fail.
  private func exchange(_ state: inout Attachment, _ new: Attachment) {
    let old = state
    // The device joins the domain before it makes the entry, so that it misses no change of the
    // domain.
    new.tableDomain?.add(self)
    let services = services(for: new)
    flushTargets.withLock { targets in
      if case .guest(_, let table) = new { targets.guestCR3Domain = table.domain }
      targets.hasDeviceTLB = targets.hasDeviceTLB || services.contains(.ats)
      if case .nested = new { targets.isNested = true }
    }
    let control = serviceControl.withLock { $0.control }
    state = new
    // The function stops using its services before the entry forbids them. The flushes below empty
    // the device TLB.
    control?([])
    write(new)
    flush(old)
    flushTargets.withLock { targets in
      if case .guest = new {} else { targets.guestCR3Domain = nil }
      targets.hasDeviceTLB = services.contains(.ats)
      if case .nested = new {} else { targets.isNested = false }
    }
    control?(services)
    old.tableDomain?.remove(self)
  }

  /// Returns the services that the function uses with an attachment. A GCR3 table comes with page
  /// requests. The guest's entry decides for a nested domain (amd: attach_device(),
  /// pdev_enable_caps()).
  private func services(for attachment: Attachment) -> TranslationServices {
    var services: TranslationServices
    switch attachment {
    case .blocked: services = []
    case .host: services = .ats
    case .guest: services = [.ats, .pageRequests]
    case .nested(let domain):
      services = domain.guestEntry.allowsDeviceTLB ? .ats : []
      if domain.guestEntry.allowsPageRequests { services.insert(.pageRequests) }
    }
    if !properties.hasATS || !services.contains(.ats) { return [] }
    if !properties.hasPageRequests { services.remove(.pageRequests) }
    return services
  }

  /// amd: amd_iommu_update_dte(), device_flush_dte()
  private func write(_ attachment: Attachment) {
    driver.memory.storeEntry(makeEntry(attachment).words, at: entry)
    let flushDeviceTLB = flushCommand(.everything, isGuest: false)
    driver.submit(
      [.invalidateDeviceTableEntry(requester)] + (flushDeviceTLB.map { [$0] } ?? []))
  }

  /// Invalidates what the unit has cached through an attachment. Other devices of the same domain
  /// refill the caches.
  private func flush(_ old: Attachment) {
    switch old {
    case .blocked: break
    case .host(let domain): domain.flushAll()
    case .guest(_, let table): table.flush(driver)
    case .nested(let domain): domain.flush(driver)
    }
  }

  // MARK: The device table entry

  /// amd: set_dte_entry(), set_dte_nested()
  private func makeEntry(_ attachment: Attachment) -> DeviceTableEntry {
    var entry = Self.clearEntry
    let services = services(for: attachment)
    entry.allowsDeviceTLB = services.contains(.ats)
    switch attachment {
    case .blocked:
      return entry
    case .host(let domain):
      entry.set(domain.hostTable, domain: domain.id)
    case .guest(_, let table):
      entry.isTranslationValid = true
      entry.allowsReading = true
      entry.allowsWriting = true
      entry.isGuestValid = true
      entry.allowsPageRequests = services.contains(.pageRequests)
      entry.usesGuestTableWithoutPASID = true
      entry.guestCR3Levels = table.levels
      entry.guestCR3Table = table.root.rawValue
      entry.guestPagingMode = driver.capabilities.guestLevels > 4 ? 1 : 0
      entry.domain = table.domain
    case .nested(let domain):
      entry.set(domain.parent.hostTable, domain: domain.hostDomain)
      entry.setGuestPart(domain.guestEntry)
    }
    return entry
  }
}

extension DeviceTableEntry {
  /// amd: amd_iommu_set_dte_v1()
  fileprivate mutating func set(_ table: AMDViPagingDomain.HostTable, domain: DomainID) {
    isTranslationValid = true
    allowsReading = true
    allowsWriting = true
    hostLevels = table.levels
    hostTable = table.root
    hostFlags = table.recordsWrites ? 3 : 0
    self.domain = domain
  }

  /// Copies the guest's fields, and sets GV whatever the guest's GV is (amd: set_dte_nested()).
  fileprivate mutating func setGuestPart(_ guest: DeviceTableEntry) {
    isGuestValid = true
    allowsPageRequests = guest.allowsPageRequests
    usesGuestTableWithoutPASID = guest.usesGuestTableWithoutPASID
    guestCR3Levels = guest.guestCR3Levels
    guestCR3Table = guest.guestCR3Table
    guestPagingMode = guest.guestPagingMode
  }
}

extension DeviceProperties {
  /// Returns the properties that the unit supports too. The kernel reads them only for a unit that
  /// supports PASIDs (amd: pdev_get_caps()).
  func limited(to capabilities: AMDViCapabilities) -> DeviceProperties {
    var limited = DeviceProperties()
    guard capabilities.hasPASIDs else { return limited }
    limited.pasidBits = min(pasidBits, capabilities.pasidBits)
    limited.hasATS = hasATS && capabilities.deviceTLBs
    limited.hasPageRequests = hasPageRequests && limited.hasATS
    return limited
  }
}
