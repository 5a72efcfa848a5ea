// From a device id and a PASID to an address space: device table entry and GCR3 tables, with the checks and
// the event of each (§2.2.2 Device Table, §2.2.6 Guest and Nested Address Translation).

internal import Synchronization

extension AMDViUnit {
  enum SpaceLookup {
    /// It is in the cache now, unless an invalidation came in between.
    case found
    /// The entry is nil when it could not be had.
    case failure(AMDViEvent, DeviceTableEntry?)
    /// V is clear: the request passes as it is.
    case untranslated
    /// The unit is not enabled.
    case disabled
  }

  @inline(never)
  func findSpace(_ request: DMARequest, _ generation: UInt64) -> SpaceLookup {
    let entry: DeviceTableEntry
    switch findEntry(request, generation) {
    case .success(let found): entry = found
    case .failure(let event): return .failure(event, nil)
    case .disabled: return .disabled
    }
    let address = request.iova.rawValue
    guard entry.isValid else {
      guard request.addressType == .untranslated else {
        return .failure(.invalidRequest(.translationRequest, at: address), entry)
      }
      return .untranslated
    }
    if let isReserved = illegality(of: entry) {
      return .failure(.illegalEntry(at: address, isReserved: isReserved), entry)
    }
    let unknown = AMDViEvent.absent(
      request.pasid.map { .pasid($0) } ?? .domain(entry.domain), at: address)
    // Table 7: without TV a walk ends before it begins.
    guard entry.isTranslationValid else { return .failure(unknown, entry) }
    let host = hostStage(of: entry)
    var guest: (root: TableRoot, pasid: PASID, isFlat: Bool)?
    if entry.isGuestValid, request.pasid != nil || entry.usesGuestTableWithoutPASID {
      let pasid = request.pasid ?? PASID(rawValue: 0)
      switch findGuestTable(of: entry, pasid, host, at: address) {
      case .failure(let event): return .failure(event, entry)
      case .success(let root): guest = (root, pasid, isFlat: request.pasid == nil)
      }
    } else if request.pasid != nil {
      // Nothing is known of a PASID where there are no guest tables.
      return .failure(unknown, entry)
    }
    let space = AMDViAddressSpace(entry, of: request.requester, host: host, guest: guest)
    state.withLock { state in
      if state.generation == generation { state.spaces.insert(request.spaceKey, space) }
    }
    return .found
  }

  // MARK: Device table

  enum EntryLookup {
    case success(DeviceTableEntry)
    case failure(AMDViEvent)
    case disabled
  }

  private func findEntry(_ request: DMARequest, _ generation: UInt64) -> EntryLookup {
    findEntry(of: request.requester, at: request.iova.rawValue, generation)
  }

  /// - Parameter address: what the request is for, for an event.
  func findEntry(
    of device: RequesterID, at address: UInt64, _ generation: UInt64
  ) -> EntryLookup {
    let key = UInt64(device.rawValue)
    let (cached, table) = state.withLock { ($0.entries.find(key)?.pointee, $0.deviceTable) }
    if let cached { return .success(cached) }
    guard let table else { return .disabled }
    // A device beyond the table has an entry that is none.
    guard Int(device.rawValue) < table.count else {
      return .failure(.illegalEntry(at: address, isReserved: false))
    }
    let place = PhysicalAddress(table.base.rawValue + key * DeviceTableEntry.size)
    guard let words = memory.loadEntry(place, as: InlineArray<4, UInt64>.self) else {
      return .failure(.deviceTableError(at: place))
    }
    let entry = DeviceTableEntry(words: words)
    state.withLock { state in
      if state.generation == generation { state.entries.insert(key, entry) }
    }
    return .success(entry)
  }

  /// §2.5.2 ILLEGAL_DEV_TABLE_ENTRY: nil for a legal entry, otherwise whether a reserved bit or value is why
  /// and not a number of levels.
  private func illegality(of entry: DeviceTableEntry) -> Bool? {
    if entry.hasReservedBits { return true }
    guard entry.isTranslationValid else { return nil }
    if entry.hostFlags == 2 || entry.hostFlags != 0 && !capabilities.hostFlags { return true }
    if entry.usesGuestTableWithoutPASID && !capabilities.guestIO { return true }
    if entry.isGuestValid {
      guard capabilities.guestTranslation else { return true }
      if entry.guestCR3Levels > capabilities.guestCR3Levels { return false }
      guard entry.guestPagingMode <= (capabilities.guestLevels > 4 ? 1 : 0) else { return false }
    }
    return entry.hostLevels > capabilities.hostLevels ? false : nil
  }

  /// The host's table, or that every physical address is itself.
  private func hostStage(of entry: DeviceTableEntry) -> SecondStageTable {
    let levels = entry.hostLevels
    let width = levels == 0 ? memory.addressBits : 12 + 9 * levels
    return SecondStageTable(
      root: TableRoot(
        address: entry.hostTable, topLevel: max(0, levels - 1),
        updatesFlags: entry.hostFlags != 0,
        options: entry.hostFlags == 1 ? .accessedFlagOnly : []),
      lastAddress: width >= 64 ? .max : 1 << UInt64(width) - 1)
  }

  // MARK: GCR3 tables

  private func findGuestTable(
    of entry: DeviceTableEntry, _ pasid: PASID, _ host: SecondStageTable, at address: UInt64
  ) -> Result<TableRoot, AMDViEvent> {
    let subject = AMDViEvent.Subject.pasid(pasid)
    var level = entry.guestCR3Levels
    guard UInt64(pasid.rawValue) >> UInt64(9 * (level + 1)) == 0 else {
      return .failure(.absent(subject, at: address))
    }
    var table = entry.guestCR3Table
    // Without GCR3TRPMode the first table is at a physical address even on top of a host table.
    var isPhysical = entry.hostLevels == 0 || !capabilities.nestedGuestCR3
    while true {
      let place = table + GuestCR3Entry.offset(of: pasid, level: level)
      let word: UInt64
      switch isPhysical ? load(place, subject) : loadGuest(place, host, entry.domain, subject) {
      case .success(let found): word = found
      case .failure(let event): return .failure(event)
      }
      guard GuestCR3Entry.isValid(word) else { return .failure(.absent(subject, at: address)) }
      guard !GuestCR3Entry.hasReservedBits(word, level: level) else {
        return .failure(.reserved(subject, at: address))
      }
      table = GuestCR3Entry.address(word)
      isPhysical = entry.hostLevels == 0
      if level == 0 { break }
      level -= 1
    }
    return .success(
      TableRoot(
        address: PhysicalAddress(table), topLevel: 3 + Int(entry.guestPagingMode),
        updatesFlags: true,
        options: capabilities.noExecute ? [.writeProtect, .executeDisable] : [.writeProtect],
        forbidden: capabilities.noExecute ? 0 : AMDGuest.executeDisable))
  }

  private func load(
    _ place: UInt64, _ subject: AMDViEvent.Subject
  ) -> Result<UInt64, AMDViEvent> {
    let place = PhysicalAddress(place)
    guard let word = GuestTableMemory(memory).load(place) else {
      return .failure(.pageTableError(subject, at: place))
    }
    return .success(word)
  }

  /// Reads a word that is at an address of the guest's.
  private func loadGuest(
    _ address: UInt64, _ host: SecondStageTable, _ domain: DomainID, _ subject: AMDViEvent.Subject
  ) -> Result<UInt64, AMDViEvent> {
    walkHost(address, .read, host, domain).flatMap { page in
      load(page.address(of: address).rawValue, subject)
    }
  }
}
