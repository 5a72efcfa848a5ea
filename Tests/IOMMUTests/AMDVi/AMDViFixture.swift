// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU

/// An AMD-Vi unit with a device table that the test writes, and 8 MiB of memory for page tables,
/// which a host table maps at `AMDViTables.hostBase`.
struct AMDViFixture {
  static let device = RequesterID.test(1)
  static let domain = DomainID(rawValue: 7)

  let memory: PhysicalMemory
  let unit: AMDViUnit
  let table: AMDViUnit.DeviceTable
  let host: PagingTable
  /// The memory at its physical addresses. `guest` has it at the addresses of the host table.
  let physical: AMDViTables
  let guest: AMDViTables
  let port: DMAPort
  let faults = Collector<FaultRecord>()

  init(_ configuration: AMDViUnit.Configuration = .init()) throws {
    memory = try PhysicalMemory(.test)
    unit = AMDViUnit(configuration, memory: memory)
    table = AMDViUnit.DeviceTable(
      base: try memory.allocateTable(sizeShift: 17), count: 1 << 12)
    unit.enable(table)
    host = try PagingTable(amdv1Levels: 3, pageSizes: .max, memory: memory)
    let start = try memory.allocateTable(sizeShift: 23)
    physical = AMDViTables(memory, start, base: start.rawValue)
    guest = AMDViTables(memory, start, base: AMDViTables.hostBase)
    port = DMAPort(requester: Self.device, amdvi: unit)
    let faults = faults
    unit.setFaultSink { faults.add($0) }
    try map(AMDViTables.hostBase, to: start.rawValue, length: AMDViTables.size)
  }

  func map(
    _ address: UInt64, to physical: UInt64, length: UInt64 = 4096,
    _ permissions: Permissions = [.read, .write]
  ) throws {
    let result = host.map(
      IOVA(address), to: PhysicalAddress(physical), length: length, permissions: permissions,
      snoops: true)
    try #require(result.error == nil)
  }

  // MARK: Device table entries

  /// An entry with V, TV, IR and IW, whose addresses are physical (Mode 0).
  var open: DeviceTableEntry {
    var entry = DeviceTableEntry()
    entry.isValid = true
    entry.isTranslationValid = true
    entry.allowsReading = true
    entry.allowsWriting = true
    entry.domain = Self.domain
    return entry
  }

  /// An entry with the host table.
  var hosted: DeviceTableEntry {
    var entry = open
    entry.hostLevels = 3
    entry.hostTable = host.root
    return entry
  }

  /// Returns an entry with guest page tables.
  /// - Parameters:
  ///   - gcr3: The address of a GCR3 table of one level.
  ///   - nested: Whether the host table translates the guest's addresses.
  func guided(_ gcr3: UInt64, nested: Bool = true) -> DeviceTableEntry {
    var entry = nested ? hosted : open
    entry.isGuestValid = true
    entry.guestCR3Table = gcr3
    return entry
  }

  /// Stores a device table entry. `flush` also invalidates the caches.
  func set(_ entry: DeviceTableEntry, of device: RequesterID = device, flush: Bool = true) {
    memory.storeEntry(
      entry.words,
      at: PhysicalAddress(
        table.base.rawValue + UInt64(device.rawValue) * DeviceTableEntry.size))
    if flush { run(.invalidateDeviceTableEntry(device), .invalidateAll) }
  }

  func run(_ commands: AMDViCommand...) {
    do throws(AMDViUnit.IllegalCommand) {
      try unit.execute(commands)
    } catch {
      Issue.record("an illegal command")
    }
  }

  /// Makes a GCR3 table and the root of a guest table of four levels for `pasid`.
  func makeGuest(_ pasid: UInt32 = 1, in tables: AMDViTables) -> (gcr3: UInt64, root: UInt64) {
    let (gcr3, root) = (tables.allocate(), tables.allocate())
    tables[gcr3 + UInt64(pasid) * 8] = root | 1
    return (gcr3, root)
  }

  /// Returns the words of the only event in the log, and empties the log.
  func consumeEvent() throws -> [UInt64] {
    let entries = unit.consumeEvents()
    try #require(entries.count == 1)
    return [entries[0].words[0], entries[0].words[1]]
  }
}
