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

  private let requester: RequesterID
  private let entry: PhysicalAddress
  private let pasidBits: Int
  private unowned let driver: AMDViDriver
  private let state = Mutex(Attachment.blocked)
  /// The domain id of the device's own GCR3 table while it has one (gcr3_tbl_info.domid). Read without
  /// the device's lock, by domains that flush.
  private let ownDomainID = Mutex<DomainID?>(nil)

  init(
    _ requester: RequesterID, entry: PhysicalAddress, pasidBits: Int, driver: AMDViDriver
  ) {
    self.requester = requester
    self.entry = entry
    self.pasidBits = pasidBits
    self.driver = driver
  }

  var guestCR3Domain: DomainID? { ownDomainID.withLock { $0 } }

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
          pasidBits: pasidBits, root: domain.root, driver: driver)
        exchange(&state, .guest(domain, table))
      }
    }
  }

  /// amd: nested_attach_device()
  func attach(_ domain: AMDViNestedDomain) throws(Errno) {
    try state.withLock { state throws(Errno) in
      // A domain with a guest table has had the function's PASIDs enabled.
      if case .guest = state, pasidBits > 0 { throw .invalidArgument }
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
    if case .guest(_, let table) = new { ownDomainID.withLock { $0 = table.domain } }
    state = new
    write(new)
    flush(old)
    if case .guest = old {
      if case .guest = new {} else { ownDomainID.withLock { $0 = nil } }
    }
    old.domain?.remove(self)
  }

  /// amd: amd_iommu_update_dte()
  private func write(_ attachment: Attachment) {
    memory.storeLine(makeEntry(attachment).words, at: entry)
    driver.submit([.invalidateDeviceTableEntry(requester)])
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
    requestsPages = guest.requestsPages
    usesGuestTableWithoutPASID = guest.usesGuestTableWithoutPASID
    guestCR3Levels = guest.guestCR3Levels
    guestCR3Table = guest.guestCR3Table
    guestPagingMode = guest.guestPagingMode
  }
}

/// The GCR3 table of a device that is attached to a guest table (struct gcr3_tbl_info): the domain's table for
/// PASID 0. It goes with the last reference, when the unit does not know it any more.
final class AMDViGuestCR3Table: Sendable {
  let root: PhysicalAddress
  /// Behind the first.
  let levels: Int
  let domain: DomainID
  private let tables: [PhysicalAddress]
  private let memory: PhysicalMemory
  private let ids: LowestFreeIDs

  /// amd: setup_gcr3_table(), amd_iommu_set_gcr3()
  init(pasidBits: Int, root guestTable: PhysicalAddress, driver: AMDViDriver) throws(Errno) {
    // get_gcr3_levels(): a table of 512 entries for every nine bits.
    levels = pasidBits == 0 ? 0 : (pasidBits + 8) / 9 - 1
    guard levels <= driver.unit.capabilities.guestCR3Levels else { throw .invalidArgument }
    memory = driver.memory
    ids = driver.domainIDs
    domain = DomainID(rawValue: try ids.take())
    var tables: [PhysicalAddress] = []
    do throws(Errno) {
      for _ in 0...levels { tables.append(try memory.allocateTable()) }
    } catch {
      for table in tables { memory.freeTable(table) }
      ids.give(domain.rawValue)
      throw error
    }
    // PASID 0 is the first entry of every table.
    for (table, next) in zip(tables, tables.dropFirst() + [guestTable]) {
      memory.storeEntry(GuestCR3Entry.make(next), at: table)
    }
    self.tables = tables
    root = tables[0]
  }

  func flush(_ driver: AMDViDriver) {
    driver.submit([
      .invalidatePages(.everything, of: domain, pasid: PASID(rawValue: 0), directories: true)
    ])
  }

  deinit {
    for table in tables { memory.freeTable(table) }
    ids.give(domain.rawValue)
  }
}
