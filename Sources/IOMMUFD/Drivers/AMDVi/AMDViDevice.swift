// One device behind an AMD-Vi unit (struct iommu_dev_data): its device table entry, and what it is
// attached to.
//
// Its lock comes before that of a domain: a domain whose table or dirty tracking changes lets go of its
// own lock and has its devices write their entries again.

internal import IOMMU
internal import Synchronization
internal import SystemPackage

final class AMDViDevice: Sendable {
  /// Without translation: every request is a fault. amd: amd_iommu_make_clear_dte()
  static let restingEntry: DeviceTableEntry = {
    var entry = DeviceTableEntry()
    entry.isValid = true
    return entry
  }()

  private enum Attachment {
    case blocked
    case host(AMDViPagingDomain)
    case guest(AMDViPagingDomain, AMDViGuestCR3Table)
    case nested(AMDViNestedDomain)

    /// What the device itself is attached to.
    var ownDomain: AMDViPagingDomain? {
      switch self {
      case .blocked, .nested: nil
      case .host(let domain), .guest(let domain, _): domain
      }
    }

    /// The domain whose table the device uses.
    var domain: AMDViPagingDomain? {
      if case .nested(let domain) = self { domain.parent } else { ownDomain }
    }
  }

  /// What is in use of the function's translation services.
  struct Services: OptionSet, Hashable, Sendable {
    let rawValue: UInt8
    /// It translates for itself.
    static let ats = Services(rawValue: 1 << 0)
    static let pageRequests = Services(rawValue: 1 << 1)
  }

  /// What domains know that flush, without the device's lock.
  private struct Caches {
    /// The domain id of the device's own GCR3 table while it has one (gcr3_tbl_info.domid).
    var guestCR3Domain: DomainID?
    /// The device may have translations of its own; of addresses that the attached domain does not know,
    /// when a guest's table is in front of it.
    var hasDeviceTLB = false
    var isNested = false
    var control: (@Sendable (Services) -> Void)?
  }

  let properties: AMDViDeviceProperties
  private let requester: RequesterID
  private let entry: PhysicalAddress
  private unowned let driver: AMDViDriver
  private let state = Mutex(Attachment.blocked)
  private let caches = Mutex(Caches())

  init(
    _ requester: RequesterID, entry: PhysicalAddress, _ properties: AMDViDeviceProperties,
    driver: AMDViDriver
  ) {
    self.requester = requester
    self.entry = entry
    self.properties = properties
    self.driver = driver
  }

  /// Sets how the function's services are switched, in its configuration space.
  func setControl(_ control: @escaping @Sendable (Services) -> Void) {
    caches.withLock { $0.control = control }
  }

  var guestCR3Domain: DomainID? { caches.withLock { $0.guestCR3Domain } }

  /// What has the function forget its own translations of a domain's addresses; nil: it has none.
  /// amd: device_flush_iotlb()
  func flushCommand(_ range: AMDViPageRange, isGuest: Bool) -> AMDViCommand? {
    caches.withLock { caches in
      guard caches.hasDeviceTLB else { return nil }
      // A function behind a guest's tables knows none of the host's addresses.
      return .invalidateDeviceTLB(
        caches.isNested ? .everything : range, of: requester,
        pasid: isGuest ? PASID(rawValue: 0) : nil)
    }
  }

  // MARK: Attaching

  /// amd: amd_iommu_attach_device()
  func attach(_ domain: AMDViPagingDomain) throws(Errno) {
    try state.withLock { state throws(Errno) in
      // To attach again changes nothing.
      if state.ownDomain === domain { return }
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
      // A domain with a guest table has had the function's PASIDs enabled.
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

  /// Writes the entry again, after what it says of the domain has changed.
  func refresh() { state.withLock { write($0) } }

  /// Cannot fail: first the entry, then what was cached by the old one.
  private func exchange(_ state: inout Attachment, _ new: Attachment) {
    let old = state
    // Before the entry is made, so that no change of the domain is missed.
    new.domain?.add(self)
    let services = services(for: new)
    let control = caches.withLock { caches in
      if case .guest(_, let table) = new { caches.guestCR3Domain = table.domain }
      caches.hasDeviceTLB = caches.hasDeviceTLB || services.contains(.ats)
      if case .nested = new { caches.isNested = true }
      return caches.control
    }
    state = new
    // Before the entry forbids them; and what the old domain gave the function it forgets.
    control?([])
    write(new)
    flush(old)
    caches.withLock { caches in
      if case .guest = new {} else { caches.guestCR3Domain = nil }
      caches.hasDeviceTLB = services.contains(.ats)
      if case .nested = new {} else { caches.isNested = false }
    }
    control?(services)
    old.domain?.remove(self)
  }

  /// Which services are in use behind a domain. A table for PASIDs has page requests, too; of a guest's
  /// domain its own entry says it. amd: attach_device(), pdev_enable_caps()
  private func services(for attachment: Attachment) -> Services {
    var services: Services
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
    memory.storeEntry(makeEntry(attachment).words, at: entry)
    let forget = flushCommand(.everything, isGuest: false)
    driver.submit([.invalidateDeviceTableEntry(requester)] + (forget.map { [$0] } ?? []))
  }

  private var memory: PhysicalMemory { driver.memory }

  /// What was cached for this device; other devices of the same domain find theirs again.
  private func flush(_ old: Attachment) {
    switch old {
    case .blocked: break
    case .host(let domain): domain.flushAll()
    case .guest(_, let table): table.flush(driver)
    case .nested(let domain): domain.flush()
    }
  }

  // MARK: The entry

  /// amd: set_dte_entry(), set_dte_nested()
  private func makeEntry(_ attachment: Attachment) -> DeviceTableEntry {
    var entry = Self.restingEntry
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
      entry.guestPagingMode = driver.unit.capabilities.guestLevels > 4 ? 1 : 0
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

  /// GV is set whatever the guest says. amd: set_dte_nested()
  fileprivate mutating func setGuestPart(_ guest: DeviceTableEntry) {
    isGuestValid = true
    allowsPageRequests = guest.allowsPageRequests
    usesGuestTableWithoutPASID = guest.usesGuestTableWithoutPASID
    guestCR3Levels = guest.guestCR3Levels
    guestCR3Table = guest.guestCR3Table
    guestPagingMode = guest.guestPagingMode
  }
}

/// What a device can do beyond plain requests. Probed with what the device has, it is what device and unit
/// both have.
package struct AMDViDeviceProperties: Hashable, Sendable {
  /// log2 of the number of PASIDs; 0: none.
  package var pasidBits = 0
  package var hasATS = false
  package var hasPageRequests = false

  package init() {}

  /// amd: pdev_get_caps(), which is asked where PASIDs are possible only
  func common(with capabilities: AMDViCapabilities) -> AMDViDeviceProperties {
    var common = AMDViDeviceProperties()
    guard capabilities.hasPASIDs else { return common }
    common.pasidBits = min(pasidBits, capabilities.pasidBits)
    common.hasATS = hasATS && capabilities.deviceTLBs
    common.hasPageRequests = hasPageRequests && common.hasATS
    return common
  }
}
