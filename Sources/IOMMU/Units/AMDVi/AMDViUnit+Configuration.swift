// SPDX-License-Identifier: Apache-2.0

// From DeviceID and PASID to an address space: device table entry (§2.2.2 Device Table) and guest
// CR3 tables (§2.2.6 Guest and Nested Address Translation), with the checks of each and the event
// of each check.

internal import Synchronization

extension AMDViUnit {
  enum AddressSpaceResult {
    /// The address space is cached now, unless an invalidation has happened meanwhile.
    case filled
    /// The device table entry is `nil` when it could not be read.
    case fault(AMDViEvent, DeviceTableEntry?)
    /// V is clear: the address of the request is not translated.
    case untranslated
    /// The unit is not enabled.
    case disabled
  }

  /// Reads the device table entry and the guest CR3 entry for a request, and caches the address
  /// space unless an invalidation has happened since `generation`. The device table entry may come
  /// from the cache.
  @inline(never)
  func fillAddressSpace(_ request: DMARequest, _ generation: UInt64) -> AddressSpaceResult {
    // Device table entry.
    let entry: DeviceTableEntry
    switch deviceTableEntry(of: request.requester, at: request.iova, generation) {
    case .success(let found): entry = found
    case .failure(let event): return .fault(event, nil)
    case .disabled: return .disabled
    }
    let address = request.iova.rawValue
    guard entry.isValid else {
      guard request.addressType == .untranslated else {
        return .fault(.invalidRequest(.translationRequest, at: address), entry)
      }
      return .untranslated
    }
    if let isReserved = illegality(of: entry) {
      return .fault(.illegalEntry(at: address, isReserved: isReserved), entry)
    }
    let absent = AMDViEvent.absent(
      request.pasid.map { .pasid($0) } ?? .domain(entry.domain), at: address)
    // Table 7: without TV a walk ends before it begins.
    guard entry.isTranslationValid else { return .fault(absent, entry) }
    // Host table and guest table.
    let host = hostStage(of: entry)
    var guest: (root: TableRoot, pasid: PASID, isZeroExtended: Bool)?
    if entry.isGuestValid, request.pasid != nil || entry.usesGuestTableWithoutPASID {
      let pasid = request.pasid ?? PASID(rawValue: 0)
      switch guestTable(of: entry, pasid, host, at: address) {
      case .failure(let event): return .fault(event, entry)
      case .success(let root): guest = (root, pasid, isZeroExtended: request.pasid == nil)
      }
    } else if request.pasid != nil {
      // Without guest tables no PASID has a translation.
      return .fault(absent, entry)
    }
    let space = AMDViAddressSpace(entry, of: request.requester, host: host, guest: guest)
    state.withLock { state in
      if state.generation == generation {
        state.addressSpaces.insert(request.addressSpaceKey, space)
      }
    }
    return .filled
  }

  // MARK: Device table

  enum DeviceTableEntryResult {
    case success(DeviceTableEntry)
    case failure(AMDViEvent)
    /// The unit is not enabled.
    case disabled
  }

  /// Returns the device table entry of a device, from the cache or from memory.
  /// - Parameter address: the address of the request, for an event.
  func deviceTableEntry(
    of requester: RequesterID, at address: IOVA, _ generation: UInt64
  ) -> DeviceTableEntryResult {
    let key = UInt64(requester.rawValue)
    let (cached, table) = state.withLock {
      ($0.deviceTableEntries.find(key)?.pointee, $0.deviceTable)
    }
    if let cached { return .success(cached) }
    guard let table else { return .disabled }
    // A DeviceID beyond the table is reported as an illegal entry.
    guard Int(requester.rawValue) < table.count else {
      return .failure(.illegalEntry(at: address.rawValue, isReserved: false))
    }
    let entryAddress = PhysicalAddress(table.base.rawValue + key * DeviceTableEntry.size)
    guard let words = memory.loadEntry(entryAddress, as: InlineArray<4, UInt64>.self) else {
      return .failure(.deviceTableError(at: entryAddress))
    }
    let entry = DeviceTableEntry(words: words)
    state.withLock { state in
      if state.generation == generation { state.deviceTableEntries.insert(key, entry) }
    }
    return .success(entry)
  }

  /// Returns why a device table entry is illegal (§2.5.2 ILLEGAL_DEV_TABLE_ENTRY): `true` for a
  /// reserved bit or value, `false` for an unsupported number of levels, `nil` for a legal entry.
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

  /// Returns the host table. Without one the host stage is the identity on physical addresses.
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

  // MARK: Guest CR3 tables

  /// Walks the guest CR3 tables for `pasid`.
  /// - Parameter address: the address of the request, for an event.
  private func guestTable(
    of entry: DeviceTableEntry, _ pasid: PASID, _ host: SecondStageTable, at address: UInt64
  ) -> Result<TableRoot, AMDViEvent> {
    let space = AMDViEvent.AddressSpace.pasid(pasid)
    var level = entry.guestCR3Levels
    guard UInt64(pasid.rawValue) >> UInt64(9 * (level + 1)) == 0 else {
      return .failure(.absent(space, at: address))
    }
    var table = entry.guestCR3Table
    // Without GCR3TRPMode the first table is at a system physical address, even if there is a host
    // table.
    var isPhysical = entry.hostLevels == 0 || !capabilities.nestedGuestCR3
    while true {
      let entryAddress = table + GuestCR3Entry.offset(of: pasid, level: level)
      let word: UInt64
      switch isPhysical
        ? load(entryAddress, space) : loadNested(entryAddress, host, entry.domain, space)
      {
      case .success(let found): word = found
      case .failure(let event): return .failure(event)
      }
      guard GuestCR3Entry.isValid(word) else { return .failure(.absent(space, at: address)) }
      guard !GuestCR3Entry.hasReservedBits(word, level: level) else {
        return .failure(.reserved(space, at: address))
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

  /// Reads a word at a system physical address.
  private func load(
    _ address: UInt64, _ space: AMDViEvent.AddressSpace
  ) -> Result<UInt64, AMDViEvent> {
    let address = PhysicalAddress(address)
    guard let word = GuestTableMemory(memory).load(address) else {
      return .failure(.pageTableError(space, at: address))
    }
    return .success(word)
  }

  /// Reads a word at a guest physical address.
  private func loadNested(
    _ address: UInt64, _ host: SecondStageTable, _ domain: DomainID,
    _ space: AMDViEvent.AddressSpace
  ) -> Result<UInt64, AMDViEvent> {
    walkHost(address, .read, host, domain).flatMap { page in
      load(page.address(of: address).rawValue, space)
    }
  }
}
