// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU

/// A VT-d unit without driver. The test writes the tables.
@Suite struct VTdUnitTests {
  let memory: PhysicalMemory
  let requester = RequesterID(bus: 2, device: 17, function: 3)
  let root: PhysicalAddress
  let contexts: PhysicalAddress
  let directory: PhysicalAddress
  let pasids: PhysicalAddress
  let table: PagingTable

  init() throws {
    memory = try PhysicalMemory(.test)
    root = try memory.allocateTable()
    contexts = try memory.allocateTable()
    directory = try memory.allocateTable()
    pasids = try memory.allocateTable()
    table = try PagingTable(vtdSecondStageLevels: 4, pageSizes: 1 << 21, memory: memory)
    let page = try memory.allocateTable()
    _ = table.map(
      IOVA(0x5000), to: page, length: 4096, permissions: [.read, .write], snoops: false)
    // Bus 2, upper context table (devices 16 to 31), function 0x8b - 0x80.
    memory.storeEntry(contexts.rawValue | 1, at: PhysicalAddress(root.rawValue + 2 * 16 + 8))
    store(context, contexts.rawValue + 11 * 32)
    memory.storeEntry(pasids.rawValue | 1, at: directory)
    store(entry, pasids.rawValue)
  }

  private var context: ScalableContextEntry {
    var context = ScalableContextEntry()
    context.directory = directory
    context.isPresent = true
    return context
  }

  private var entry: PASIDTableEntry {
    var entry = PASIDTableEntry()
    entry.domain = DomainID(rawValue: 9)
    entry.type = .secondStage
    entry.levels = 4
    entry.secondStage = table.root
    entry.isPresent = true
    return entry
  }

  private func store(_ entry: ScalableContextEntry, _ address: UInt64) {
    memory.storeEntry(entry.words, at: PhysicalAddress(address))
  }

  private func store(_ entry: PASIDTableEntry, _ address: UInt64) {
    memory.storeEntry(entry.words, at: PhysicalAddress(address))
  }

  /// Returns the outcome of a read through a new unit with empty caches.
  private func load(
    _ iova: UInt64 = 0x5000, pasid: PASID? = nil,
    _ configure: (inout VTdCapabilities) -> Void = { _ in }
  ) -> DMAOutcome {
    var configuration = VTdUnit.Configuration()
    configure(&configuration.capabilities)
    let unit = VTdUnit(configuration, memory: memory)
    unit.setRootTable(root)
    return DMAPort(requester: requester, vtd: unit).load(iova, pasid: pasid).0
  }

  @Test("root, context, PASID and second-stage tables translate a request")
  func tablesOfTheSpecificationTranslate() {
    #expect(load() == .completed)
    #expect(load(0x4ff8).reason == .readDenied)
    #expect(load(0x6000).reason == .readDenied)
  }

  @Test("a bad root, context or PASID directory entry faults with its reason")
  func configurationFaults() {
    let nowhere = UInt64(7) << 30
    let place = PhysicalAddress(root.rawValue + 2 * 16 + 8)
    memory.storeEntry(0, at: place)
    #expect(load().reason == .rootEntryAbsent)
    memory.storeEntry(contexts.rawValue | 3, at: place)
    #expect(load().reason == .rootEntryReserved)
    memory.storeEntry(nowhere | 1, at: place)
    #expect(load().reason == .contextEntryInaccessible)
    memory.storeEntry(contexts.rawValue | 1, at: place)

    var changed = context
    changed.words[0] |= 1 << 5
    store(changed, contexts.rawValue + 11 * 32)
    #expect(load().reason == .contextEntryReserved)
    changed = context
    changed.ridPASID = PASID(rawValue: 1 << 19)
    store(changed, contexts.rawValue + 11 * 32)
    #expect(load().reason == .ridPasidInvalid)
    changed = context
    changed.directory = PhysicalAddress(nowhere)
    store(changed, contexts.rawValue + 11 * 32)
    #expect(load().reason == .pasidDirectoryInaccessible)
    store(context, contexts.rawValue + 11 * 32)

    memory.storeEntry(pasids.rawValue | 5, at: directory)
    #expect(load().reason == .pasidDirectoryReserved)
    memory.storeEntry(nowhere | 1, at: directory)
    #expect(load().reason == .pasidEntryInaccessible)
    memory.storeEntry(pasids.rawValue | 1, at: directory)
    #expect(load() == .completed)
  }

  @Test("a bad PASID table entry faults with its reason")
  func pasidEntriesAreChecked() {
    func outcome(_ change: (inout PASIDTableEntry) -> Void) -> DMAOutcome {
      var changed = entry
      change(&changed)
      store(changed, pasids.rawValue)
      return load()
    }
    #expect(outcome { $0.isPresent = false }.reason == .pasidEntryAbsent)
    #expect(outcome { $0.words[2] = 1 }.reason == .pasidEntryReserved)
    #expect(outcome { $0.levels = 5 }.reason == .pasidEntryInvalid)
    #expect(outcome { $0.type = .firstStage }.reason == .pasidEntryInvalid)
    #expect(outcome { $0.type = .nested }.reason == .pasidEntryInvalid)
    #expect(
      outcome { $0.secondStage = PhysicalAddress(7 << 30) }.reason == .secondStagePointerInvalid)
    #expect(outcome { _ in } == .completed)
  }

  @Test("a bad paging entry faults with its reason")
  func pagingEntriesAreChecked() throws {
    let place = VTdSecondStage.entryAddress(0x5000, level: 3, table: table.root)
    let good = try #require(memory.word(at: place))
    memory.storeEntry(good | 0x80, at: place)
    #expect(load().reason == .secondStageReserved)
    memory.storeEntry(7 << 30 | 3, at: place)
    #expect(load().reason == .secondStageInaccessible)
    memory.storeEntry(good & ~1, at: place)
    #expect(load().reason == .readDenied)
  }

  @Test("a pass-through entry translates to physical addresses")
  func passThroughReachesPhysicalMemory() throws {
    var changed = entry
    changed.type = .passThrough
    store(changed, pasids.rawValue)
    #expect(load(table.root.rawValue) == .completed)
    #expect(load(7 << 30) == .aborted)
    #expect(load(1 << UInt64(memory.addressBits)).reason == .beyondHostAddressWidth)
    #expect(load { $0.passThrough = false }.reason == .pasidEntryInvalid)
  }

  @Test("second-stage entries get A from reads and D from writes when SSADE is set")
  func accessedAndDirtyFlags() throws {
    var changed = entry
    changed.updatesSecondStageFlags = true
    store(changed, pasids.rawValue)
    let unit = VTdUnit(VTdUnit.Configuration(), memory: memory)
    unit.setRootTable(root)
    let port = DMAPort(requester: requester, vtd: unit)
    func flags() throws -> [UInt64] {
      var result: [UInt64] = []
      var tableAddress = table.root
      for level in [3, 2, 1, 0] {
        let place = VTdSecondStage.entryAddress(0x5000, level: level, table: tableAddress)
        let entry = try #require(memory.word(at: place))
        result.append(entry >> 8 & 3)
        tableAddress = VTdSecondStage.address(entry)
      }
      return result
    }
    #expect(try flags() == [0, 0, 0, 0])
    #expect(port.load(0x5000).0 == .completed)
    #expect(try flags() == [1, 1, 1, 1])
    // A cached translation without D does not allow a write.
    #expect(port.store(1, to: 0x5000) == .completed)
    #expect(try flags() == [1, 1, 1, 3])
    // Without SSADE no flag is set.
    #expect(load { $0.secondStageFlags = false } == .completed)
  }

  @Test("a fault with FPD is not recorded, and a second fault in the register overflows")
  func suppressedFaultsAreNotRecorded() throws {
    var changed = entry
    changed.disablesFaults = true
    store(changed, pasids.rawValue)
    let unit = VTdUnit(VTdUnit.Configuration(), memory: memory)
    unit.setRootTable(root)
    let faults = Collector<FaultRecord>()
    unit.setFaultSink { faults.add($0) }
    let port = DMAPort(requester: requester, vtd: unit)
    #expect(port.load(0x9000).0.reason == .readDenied)
    #expect(faults.drain().isEmpty)
    #expect(unit.consumeFaultRecords().isEmpty)
    #expect(port.load(0x9000, pasid: PASID(rawValue: 3)).0.reason == .pasidDisabled)
    #expect(faults.drain().count == 1)
    // The unit has one fault recording register. The second fault sets overflow and is lost.
    #expect(port.load(0, pasid: PASID(rawValue: 4)).0.reason == .pasidDisabled)
    let records = unit.consumeFaultRecords()
    #expect(records.count == 1)
    #expect(records.first.map { $0.upper >> 40 & 0xf_ffff } == 3)
  }

  @Test("context and PASID entries stay cached until they are invalidated")
  func configurationStaysCachedUntilInvalidated() {
    let unit = VTdUnit(VTdUnit.Configuration(), memory: memory)
    unit.setRootTable(root)
    let port = DMAPort(requester: requester, vtd: unit)
    #expect(port.load(0x5000).0 == .completed)
    store(PASIDTableEntry(), pasids.rawValue)
    #expect(port.load(0x5000).0 == .completed)
    unit.invalidatePASIDCache(.domain(DomainID(rawValue: 8)))
    #expect(port.load(0x5000).0 == .completed)
    unit.invalidatePASIDCache(.pasid(DomainID(rawValue: 9), PASID(rawValue: 0)))
    #expect(port.load(0x5000).0.reason == .pasidEntryAbsent)
    store(entry, pasids.rawValue)
    store(ScalableContextEntry(), contexts.rawValue + 11 * 32)
    #expect(port.load(0x5000).0 == .completed)
    unit.invalidateContextCache(.device(requester))
    #expect(port.load(0x5000).0.reason == .contextEntryAbsent)
  }

  @Test("the capability registers have the values of the configuration")
  func capabilityRegisters() {
    let capabilities = VTdCapabilities()
    #expect(capabilities.capability & 7 == 6)
    #expect(capabilities.capability >> 8 & 0x1f == 1 << 2)
    #expect(capabilities.capability >> 16 & 0x3f == 47)
    #expect(capabilities.capability >> 34 & 0xf == 3)
    #expect(capabilities.capability >> 48 & 0x3f == 18)
    #expect(capabilities.extendedCapability >> 46 & 3 == 1)
    #expect(capabilities.extendedCapability >> 35 & 0x1f == 19)
    #expect(capabilities.extendedCapability >> 43 & 1 == 1)
  }
}
