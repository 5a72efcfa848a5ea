// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import IOMMU

@Suite("AMD-Vi: page walks and their events")
struct AMDViWalkTests {
  private let one = PASID(rawValue: 1)
  private var subject: AMDViEvent.AddressSpace { .pasid(one) }
  private let domain = AMDViEvent.AddressSpace.domain(AMDViFixture.domain)

  @Test("a request is translated by the host tables or reported at its first absent byte")
  func host() throws {
    let fixture = try AMDViFixture()
    fixture.set(fixture.hosted)
    let address = fixture.guest.data(2) + 0xffc
    #expect(fixture.port.store(0x1122_3344_5566_7788, to: address) == .completed)
    #expect(fixture.port.load(address).1 == 0x1122_3344_5566_7788)
    #expect(fixture.guest[fixture.guest.data(3)] == 0x1122_3344)

    #expect(fixture.port.load(0x8000).0.amdviEvent == .absent(domain, at: 0x8000))
    #expect(fixture.port.load(1 << 39).0.amdviEvent == .absent(domain, at: 1 << 39))
    try fixture.map(0x1000, to: fixture.physical.data(0), .read)
    #expect(fixture.port.load(0x1000).0 == .completed)
    #expect(fixture.port.store(1, to: 0x1000).amdviEvent == .denied(domain, at: 0x1000))
    // An event has the address of the first byte without a translation.
    #expect(fixture.port.fill(0x1ff8, count: 16, with: 1).amdviEvent?.isDenied == true)
    #expect(fixture.port.load(0x1ffc).0.amdviEvent == .absent(domain, at: 0x2000))
    #expect(
      fixture.unit.consumeEvents().map { $0.words[1] }
        == [0x8000, 1 << 39, 0x1000, 0x1ff8, 0x2000])
  }

  @Test("each malformed host entry has its event")
  func malformedHost() throws {
    let fixture = try AMDViFixture()
    var entry = fixture.hosted
    let top = try fixture.memory.allocateTable()
    let nowhere = UInt64(1) << UInt64(fixture.memory.addressBits) - 4096
    let skipped: UInt64 = 0x20_0000
    // The same level again, a skipped level whose address bits are not zero, a page as large as the
    // table, a reserved bit, an address beyond the limit, and a table without memory.
    for (address, word, expected) in [
      (0, 1 | 3 << 9 | 3 << 61, .illegalLevel(domain, at: 0)),
      (skipped, 1 | 1 << 9 | 3 << 61, .illegalLevel(domain, at: skipped)),
      (0, 1 | 7 << 9 | 0x3ff_ffff << 12 | 3 << 61, .illegalLevel(domain, at: 0)),
      (0, 1 | 1 << 52 | 2 << 9 | 3 << 61, .reserved(domain, at: 0)),
      (0, 1 | 1 << 51 | 2 << 9 | 3 << 61, .reserved(domain, at: 0)),
      (0, 1 | nowhere | 2 << 9 | 3 << 61, .pageTableError(domain, at: PhysicalAddress(nowhere))),
    ] as [(UInt64, UInt64, AMDViEvent)] {
      fixture.memory.storeEntry(word, at: top)
      entry.hostTable = top
      fixture.set(entry)
      #expect(fixture.port.load(address).0.amdviEvent == expected, "\(String(word, radix: 16))")
    }
    // The event has PR and the domain.
    fixture.memory.storeEntry(1 | 3 << 9 | 3 << 61, at: top)
    fixture.set(entry)
    _ = fixture.unit.consumeEvents()
    _ = fixture.port.load(0)
    #expect(try fixture.consumeEvent() == [2 << 60 | 1 << 52 | 7 << 32 | 0x108, 0])
  }

  @Test("guest tables without a host table are at physical addresses", arguments: [4, 5])
  func guest(levels: Int) throws {
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.guestLevels = levels
    let fixture = try AMDViFixture(configuration)
    let tables = fixture.physical
    let (gcr3, root) = fixture.makeGuest(1, in: tables)
    var entry = fixture.guided(gcr3, nested: false)
    entry.guestPagingMode = UInt64(levels - 4)
    fixture.set(entry)
    let high = ~UInt64(0) << UInt64(11 + 9 * levels)
    let place = tables.entry(root, high, levels: levels)
    tables[place] = tables.data(1) | AMDViTables.user
    #expect(fixture.port.store(5, to: high, pasid: one) == .completed)
    #expect(tables[tables.data(1)] == 5)
    #expect(tables[place] & 0xfff == 0x67)
    let hole = UInt64(1) << UInt64(11 + 9 * levels)
    #expect(fixture.port.load(hole, pasid: one).0.amdviEvent == .absent(subject, at: hole))
  }

  @Test("P, R/W, U/S and NX of guest entries decide the permissions")
  func rights() throws {
    let fixture = try AMDViFixture()
    let (gcr3, root) = fixture.makeGuest(1, in: fixture.guest)
    fixture.set(fixture.guided(gcr3))
    func event(_ flags: UInt64, write: Bool) -> AMDViEvent? {
      fixture.guest.map(root, 0x7000, to: fixture.guest.data(0), flags)
      fixture.run(.invalidateAll)
      let outcome =
        write
        ? fixture.port.store(1, to: 0x7000, pasid: one) : fixture.port.load(0x7000, pasid: one).0
      return outcome.amdviEvent
    }
    #expect(event(5, write: false) == nil)
    #expect(event(5, write: true) == .denied(subject, at: 0x7000))
    #expect(event(3, write: false) == .denied(subject, at: 0x7000))
    #expect(event(6, write: false) == .absent(subject, at: 0x7000))
    #expect(event(7 | 1 << 63, write: true) == nil)
    fixture.guest[fixture.guest.entry(root, 0x4000_0000, level: 2)] = fixture.guest.data(2) | 0x87
    #expect(
      fixture.port.load(0x4000_0000, pasid: one).0.amdviEvent == .reserved(subject, at: 0x4000_0000)
    )
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.noExecute = false
    let plain = try AMDViFixture(configuration)
    let (other, table) = plain.makeGuest(1, in: plain.guest)
    plain.guest.map(table, 0x7000, to: plain.guest.data(0), 7 | 1 << 63)
    plain.set(plain.guided(other))
    #expect(plain.port.load(0x7000, pasid: one).0.amdviEvent == .reserved(subject, at: 0x7000))
  }

  @Test("nested translation supports all page sizes and sets the flags of both stages")
  func nested() throws {
    let fixture = try AMDViFixture()
    let (gcr3, root) = fixture.makeGuest(1, in: fixture.guest)
    fixture.guest.map(root, 0x7000, to: fixture.guest.data(1))
    fixture.guest.mapLarge(root, 0x60_0000, to: AMDViTables.hostBase)
    fixture.guest[fixture.guest.entry(root, 3 << 30, level: 2)] = AMDViTables.hostBase | 0x87
    var entry = fixture.guided(gcr3)
    entry.hostFlags = 3
    fixture.set(entry)
    fixture.guest[fixture.guest.data(1)] = 11
    #expect(fixture.port.load(0x7000, pasid: one).1 == 11)
    #expect(fixture.guest[fixture.guest.entry(root, 0x7000)] & 0xfff == 0x27)
    #expect(fixture.port.load(0x60_1000, pasid: one).1 == 11)
    #expect(fixture.port.load(3 << 30 | 0x1000, pasid: one).1 == 11)
    #expect(fixture.port.load(0x61_0000 - 4, pasid: one).0 == .completed)

    #expect(fixture.port.store(12, to: 0x7000, pasid: one) == .completed)
    #expect(fixture.guest[fixture.guest.entry(root, 0x7000)] & 0xfff == 0x67)
    var dirty: [UInt64] = []
    fixture.host.readDirty(IOVA(0)...IOVA(1 << 39 - 1), clearing: false) { iova, _ in
      dirty.append(iova.rawValue)
    }
    // One host page of 8 MiB contains the data and the tables whose flags were set.
    #expect(dirty == [AMDViTables.hostBase])
  }

  @Test("a nested fault is reported by PASID for the guest and by domain for the host")
  func nestedFaults() throws {
    let fixture = try AMDViFixture()
    let (gcr3, root) = fixture.makeGuest(1, in: fixture.guest)
    try fixture.map(0x9000_0000, to: fixture.physical.data(9), .read)
    fixture.set(fixture.guided(gcr3))
    fixture.guest.map(root, 0x7000, to: 0x9000_0000)
    fixture.guest.map(root, 0x8000, to: 0x9000_1000)
    fixture.guest.map(root, 0x9000, to: 1 << 45)
    // A fault of the guest's table has the PASID and the guest virtual address.
    #expect(fixture.port.load(0xa000, pasid: one).0.amdviEvent == .absent(subject, at: 0xa000))
    // A fault of the host table has the domain and the guest physical address.
    #expect(fixture.port.load(0x7008, pasid: one).0 == .completed)
    #expect(
      fixture.port.store(1, to: 0x7008, pasid: one).amdviEvent == .denied(domain, at: 0x9000_0008))
    #expect(
      fixture.port.load(0x8008, pasid: one).0.amdviEvent == .absent(domain, at: 0x9000_1008))
    #expect(fixture.port.load(0x9008, pasid: one).0.amdviEvent == .absent(domain, at: 1 << 45 | 8))
    // A guest table that the host table does not map, and one that it maps read-only.
    let upper = fixture.guest.entry(root, 1 << 39, level: 3)
    fixture.guest[upper] = 0x9100_0000 | AMDViTables.user
    #expect(
      fixture.port.load(1 << 39, pasid: one).0.amdviEvent == .absent(domain, at: 0x9100_0000))
    fixture.physical[fixture.physical.data(9)] = AMDViTables.hostBase | AMDViTables.user
    fixture.guest[upper] = 0x9000_0000 | AMDViTables.user
    fixture.run(.invalidateAll)
    #expect(
      fixture.port.load(1 << 39, pasid: one).0.amdviEvent == .denied(domain, at: 0x9000_0000))
    #expect(
      fixture.unit.consumeEvents().map { $0.words[0] } == [
        0x2005_0001_0000_0108, 0x2070_0007_0000_0108, 0x2000_0007_0000_0108,
        0x2000_0007_0000_0108, 0x2000_0007_0000_0108, 0x2050_0007_0000_0108,
      ])
  }

  @Test("D is set only with both bits of HAD, and the first write to a cached page sets it")
  func hostFlags() throws {
    let fixture = try AMDViFixture()
    var entry = fixture.hosted
    func dirty() -> Int {
      var count = 0
      fixture.host.readDirty(IOVA(0)...IOVA(1 << 39 - 1), clearing: true) { _, _ in count += 1 }
      return count
    }
    for (flags, expected) in [(0, 0), (1, 0), (3, 1)] as [(UInt64, Int)] {
      entry.hostFlags = flags
      fixture.set(entry)
      #expect(fixture.port.load(AMDViTables.hostBase).0 == .completed)
      #expect(dirty() == 0)
      #expect(fixture.port.store(1, to: AMDViTables.hostBase) == .completed)
      #expect(dirty() == expected)
    }
  }
}
