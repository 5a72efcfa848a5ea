import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

/// An AMD-Vi unit with a device table that the test writes, and 8 MiB of memory with tables in it.
struct AMDViRig {
  static let device = RequesterID.test(1)
  static let domain = DomainID(rawValue: 7)
  /// Where the host's table has the memory.
  static let base: UInt64 = 0x4000_0000

  let memory: PhysicalMemory
  let unit: AMDViUnit
  let table: AMDViUnit.DeviceTable
  let host: PagingTable
  /// The memory at its physical addresses, and at those of the host's table.
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
    guest = AMDViTables(memory, start, base: Self.base)
    port = DMAPort(requester: Self.device, amdvi: unit)
    let faults = faults
    unit.setFaultSink { faults.add($0) }
    try map(Self.base, to: start.rawValue, length: AMDViTables.size)
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

  /// Valid, translating, reading and writing.
  var open: DeviceTableEntry {
    var entry = DeviceTableEntry()
    entry.isValid = true
    entry.isTranslationValid = true
    entry.allowsReading = true
    entry.allowsWriting = true
    entry.domain = Self.domain
    return entry
  }

  var hosted: DeviceTableEntry {
    var entry = open
    entry.hostLevels = 3
    entry.hostTable = host.root
    return entry
  }

  /// - Parameter gcr3: a GCR3 table of one level.
  func guided(_ gcr3: UInt64, nested: Bool = true) -> DeviceTableEntry {
    var entry = nested ? hosted : open
    entry.isGuestValid = true
    entry.guestCR3Table = gcr3
    return entry
  }

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

  /// A GCR3 table with one guest table, of four levels, for `pasid`.
  func makeGuest(_ pasid: UInt32 = 1, in tables: AMDViTables) -> (gcr3: UInt64, root: UInt64) {
    let (gcr3, root) = (tables.take(), tables.take())
    tables[gcr3 + UInt64(pasid) * 8] = root | 1
    return (gcr3, root)
  }

  /// The one event that there was, as the log has it.
  func takeEntry() throws -> [UInt64] {
    let entries = unit.consumeEvents()
    try #require(entries.count == 1)
    return [entries[0].words[0], entries[0].words[1]]
  }
}

/// Tables in the rig's memory, whose entries have addresses from `base` on.
final class AMDViTables {
  static let size: UInt64 = 8 << 20
  static let user: UInt64 = 7  // P, R/W and U/S
  let base: UInt64
  private let memory: PhysicalMemory
  private let start: PhysicalAddress
  private var next: UInt64 = 16

  init(_ memory: PhysicalMemory, _ start: PhysicalAddress, base: UInt64) {
    (self.memory, self.start, self.base) = (memory, start, base)
  }

  func place(_ address: UInt64) -> PhysicalAddress {
    PhysicalAddress(start.rawValue + address - base)
  }

  subscript(address: UInt64) -> UInt64 {
    get { memory.word(at: place(address)) ?? 0 }
    set { memory.storeEntry(newValue, at: place(address)) }
  }

  /// A zeroed page; the first 16 are for data.
  func take() -> UInt64 {
    defer { next += 1 }
    precondition((next + 1) << 12 <= Self.size)
    return base + next << 12
  }

  /// The n-th page for data.
  func data(_ index: UInt64) -> UInt64 { base + index << 12 }

  func entry(_ root: UInt64, _ address: UInt64, level: Int = 0, levels: Int = 4) -> UInt64 {
    var table = root
    var upper = levels - 1
    while upper > level {
      let place = table + (address >> UInt64(12 + 9 * upper) & 511) * 8
      if self[place] & 1 == 0 { self[place] = take() | Self.user }
      table = self[place] & 0x000f_ffff_ffff_f000
      upper -= 1
    }
    return table + (address >> UInt64(12 + 9 * level) & 511) * 8
  }

  func map(_ root: UInt64, _ address: UInt64, to page: UInt64, _ flags: UInt64 = user) {
    self[entry(root, address)] = page | flags
  }

  func mapLarge(_ root: UInt64, _ address: UInt64, to page: UInt64) {
    self[entry(root, address, level: 1)] = page | Self.user | 0x80
  }
}

extension DMAOutcome {
  var amdviEvent: AMDViEvent? {
    if case .fault(let record) = self, case .amdvi(let event) = record.reason { return event }
    return nil
  }
}
