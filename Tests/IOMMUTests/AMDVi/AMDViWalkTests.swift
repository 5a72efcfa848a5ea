import TestSupport
import Testing

@testable import IOMMU

@Suite("AMD-Vi: walks, and the event of each failure")
struct AMDViWalkTests {
  private let one = PASID(rawValue: 1)
  private var subject: AMDViEvent.AddressSpace { .pasid(one) }
  private let domain = AMDViEvent.AddressSpace.domain(AMDViRig.domain)

  @Test("host tables")
  func host() throws {
    let rig = try AMDViRig()
    rig.set(rig.hosted)
    let address = rig.guest.data(2) + 0xffc
    #expect(rig.port.store(0x1122_3344_5566_7788, to: address) == .completed)
    #expect(rig.port.load(address).1 == 0x1122_3344_5566_7788)
    #expect(rig.guest[rig.guest.data(3)] == 0x1122_3344)

    #expect(rig.port.load(0x8000).0.amdviEvent == .absent(domain, at: 0x8000))
    #expect(rig.port.load(1 << 39).0.amdviEvent == .absent(domain, at: 1 << 39))
    try rig.map(0x1000, to: rig.physical.data(0), .read)
    #expect(rig.port.load(0x1000).0 == .completed)
    #expect(rig.port.store(1, to: 0x1000).amdviEvent == .denied(domain, at: 0x1000))
    // The first byte without a translation, wherever the request began.
    #expect(rig.port.fill(0x1ff8, count: 16, with: 1).amdviEvent?.isDenied == true)
    #expect(rig.port.load(0x1ffc).0.amdviEvent == .absent(domain, at: 0x2000))
    #expect(
      rig.unit.consumeEvents().map { $0.words[1] }
        == [0x8000, 1 << 39, 0x1000, 0x1ff8, 0x2000])
  }

  @Test("malformed host tables")
  func malformedHost() throws {
    let rig = try AMDViRig()
    var entry = rig.hosted
    let top = try rig.memory.allocateTable()
    let nowhere = UInt64(1) << UInt64(rig.memory.addressBits) - 4096
    let skipped: UInt64 = 0x20_0000
    // The same level again; a level skipped whose address bits are not zero; a page as large as the
    // table; a reserved bit; an address beyond; a table where no memory is.
    for (address, word, expected) in [
      (0, 1 | 3 << 9 | 3 << 61, .illegalLevel(domain, at: 0)),
      (skipped, 1 | 1 << 9 | 3 << 61, .illegalLevel(domain, at: skipped)),
      (0, 1 | 7 << 9 | 0x3ff_ffff << 12 | 3 << 61, .illegalLevel(domain, at: 0)),
      (0, 1 | 1 << 52 | 2 << 9 | 3 << 61, .reserved(domain, at: 0)),
      (0, 1 | 1 << 51 | 2 << 9 | 3 << 61, .reserved(domain, at: 0)),
      (0, 1 | nowhere | 2 << 9 | 3 << 61, .pageTableError(domain, at: PhysicalAddress(nowhere))),
    ] as [(UInt64, UInt64, AMDViEvent)] {
      rig.memory.storeEntry(word, at: top)
      entry.hostTable = top
      rig.set(entry)
      #expect(rig.port.load(address).0.amdviEvent == expected, "\(String(word, radix: 16))")
    }
    // PR alone, beside the domain.
    rig.memory.storeEntry(1 | 3 << 9 | 3 << 61, at: top)
    rig.set(entry)
    _ = rig.unit.consumeEvents()
    _ = rig.port.load(0)
    #expect(try rig.takeEntry() == [2 << 60 | 1 << 52 | 7 << 32 | 0x108, 0])
  }

  @Test("guest tables at physical addresses", arguments: [4, 5])
  func guest(levels: Int) throws {
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.guestLevels = levels
    let rig = try AMDViRig(configuration)
    let tables = rig.physical
    let (gcr3, root) = rig.makeGuest(1, in: tables)
    var entry = rig.guided(gcr3, nested: false)
    entry.guestPagingMode = UInt64(levels - 4)
    rig.set(entry)
    let high = ~UInt64(0) << UInt64(11 + 9 * levels)
    let place = tables.entry(root, high, levels: levels)
    tables[place] = tables.data(1) | AMDViTables.user
    #expect(rig.port.store(5, to: high, pasid: one) == .completed)
    #expect(tables[tables.data(1)] == 5)
    #expect(tables[place] & 0xfff == 0x67)
    let hole = UInt64(1) << UInt64(11 + 9 * levels)
    #expect(rig.port.load(hole, pasid: one).0.amdviEvent == .absent(subject, at: hole))
  }

  @Test("rights of guest entries")
  func rights() throws {
    let rig = try AMDViRig()
    let (gcr3, root) = rig.makeGuest(1, in: rig.guest)
    rig.set(rig.guided(gcr3))
    func event(_ flags: UInt64, write: Bool) -> AMDViEvent? {
      rig.guest.map(root, 0x7000, to: rig.guest.data(0), flags)
      rig.run(.invalidateAll)
      let outcome =
        write ? rig.port.store(1, to: 0x7000, pasid: one) : rig.port.load(0x7000, pasid: one).0
      return outcome.amdviEvent
    }
    #expect(event(5, write: false) == nil)
    #expect(event(5, write: true) == .denied(subject, at: 0x7000))
    #expect(event(3, write: false) == .denied(subject, at: 0x7000))
    #expect(event(6, write: false) == .absent(subject, at: 0x7000))
    #expect(event(7 | 1 << 63, write: true) == nil)
    rig.guest[rig.guest.entry(root, 0x4000_0000, level: 2)] = rig.guest.data(2) | 0x87
    #expect(
      rig.port.load(0x4000_0000, pasid: one).0.amdviEvent == .reserved(subject, at: 0x4000_0000))
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.noExecute = false
    let plain = try AMDViRig(configuration)
    let (other, table) = plain.makeGuest(1, in: plain.guest)
    plain.guest.map(table, 0x7000, to: plain.guest.data(0), 7 | 1 << 63)
    plain.set(plain.guided(other))
    #expect(plain.port.load(0x7000, pasid: one).0.amdviEvent == .reserved(subject, at: 0x7000))
  }

  @Test("nested: data, flags of both stages, pages of all sizes")
  func nested() throws {
    let rig = try AMDViRig()
    let (gcr3, root) = rig.makeGuest(1, in: rig.guest)
    rig.guest.map(root, 0x7000, to: rig.guest.data(1))
    rig.guest.mapLarge(root, 0x60_0000, to: AMDViRig.base)
    rig.guest[rig.guest.entry(root, 3 << 30, level: 2)] = AMDViRig.base | 0x87
    var entry = rig.guided(gcr3)
    entry.hostFlags = 3
    rig.set(entry)
    rig.guest[rig.guest.data(1)] = 11
    #expect(rig.port.load(0x7000, pasid: one).1 == 11)
    #expect(rig.guest[rig.guest.entry(root, 0x7000)] & 0xfff == 0x27)
    #expect(rig.port.load(0x60_1000, pasid: one).1 == 11)
    #expect(rig.port.load(3 << 30 | 0x1000, pasid: one).1 == 11)
    #expect(rig.port.load(0x61_0000 - 4, pasid: one).0 == .completed)

    #expect(rig.port.store(12, to: 0x7000, pasid: one) == .completed)
    #expect(rig.guest[rig.guest.entry(root, 0x7000)] & 0xfff == 0x67)
    var dirty: [UInt64] = []
    rig.host.readDirty(0...(1 << 39 - 1), clearing: false) { iova, _ in
      dirty.append(iova.rawValue)
    }
    // One host page of 8 MiB: of the data, and of the tables whose flags were set.
    #expect(dirty == [AMDViRig.base])
  }

  @Test("nested: whose fault it is")
  func nestedFaults() throws {
    let rig = try AMDViRig()
    let (gcr3, root) = rig.makeGuest(1, in: rig.guest)
    try rig.map(0x9000_0000, to: rig.physical.data(9), .read)
    rig.set(rig.guided(gcr3))
    rig.guest.map(root, 0x7000, to: 0x9000_0000)
    rig.guest.map(root, 0x8000, to: 0x9000_1000)
    rig.guest.map(root, 0x9000, to: 1 << 45)
    // The guest's own: by PASID and its address.
    #expect(rig.port.load(0xa000, pasid: one).0.amdviEvent == .absent(subject, at: 0xa000))
    // The host's: by domain and the guest's physical address.
    #expect(rig.port.load(0x7008, pasid: one).0 == .completed)
    #expect(
      rig.port.store(1, to: 0x7008, pasid: one).amdviEvent == .denied(domain, at: 0x9000_0008))
    #expect(
      rig.port.load(0x8008, pasid: one).0.amdviEvent == .absent(domain, at: 0x9000_1008))
    #expect(rig.port.load(0x9008, pasid: one).0.amdviEvent == .absent(domain, at: 1 << 45 | 8))
    // A table that the host does not have, and one that it does not let be marked.
    let upper = rig.guest.entry(root, 1 << 39, level: 3)
    rig.guest[upper] = 0x9100_0000 | AMDViTables.user
    #expect(
      rig.port.load(1 << 39, pasid: one).0.amdviEvent == .absent(domain, at: 0x9100_0000))
    rig.physical[rig.physical.data(9)] = AMDViRig.base | AMDViTables.user
    rig.guest[upper] = 0x9000_0000 | AMDViTables.user
    rig.run(.invalidateAll)
    #expect(
      rig.port.load(1 << 39, pasid: one).0.amdviEvent == .denied(domain, at: 0x9000_0000))
    #expect(
      rig.unit.consumeEvents().map { $0.words[0] } == [
        0x2005_0001_0000_0108, 0x2070_0007_0000_0108, 0x2000_0007_0000_0108,
        0x2000_0007_0000_0108, 0x2000_0007_0000_0108, 0x2050_0007_0000_0108,
      ])
  }

  @Test("HAD: dirty only with both bits; a cached page does not hide the first write")
  func hostFlags() throws {
    let rig = try AMDViRig()
    var entry = rig.hosted
    func dirty() -> Int {
      var count = 0
      rig.host.readDirty(0...(1 << 39 - 1), clearing: true) { _, _ in count += 1 }
      return count
    }
    for (flags, expected) in [(0, 0), (1, 0), (3, 1)] as [(UInt64, Int)] {
      entry.hostFlags = flags
      rig.set(entry)
      #expect(rig.port.load(AMDViRig.base).0 == .completed)
      #expect(dirty() == 0)
      #expect(rig.port.store(1, to: AMDViRig.base) == .completed)
      #expect(dirty() == expected)
    }
  }
}
