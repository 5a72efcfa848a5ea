// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import IOMMU

@Suite("AMD-Vi: caches and invalidation commands")
struct AMDViCommandTests {
  private let one = PASID(rawValue: 1)
  private let two = PASID(rawValue: 2)

  /// A guest with two PASIDs. Its pages 0x7000 and 0x8000 contain their number. It also has a page
  /// of 2 MiB.
  private struct CacheFixture {
    let fixture: AMDViFixture
    let gcr3: UInt64
    let roots: [UInt64]

    init(pagingStructures: Int = 32) throws {
      var configuration = AMDViUnit.Configuration()
      configuration.pagingStructureEntries = pagingStructures
      fixture = try AMDViFixture(configuration)
      let (gcr3, root) = fixture.makeGuest(1, in: fixture.guest)
      let other = fixture.guest.allocate()
      fixture.guest[gcr3 + 16] = other | 1
      (self.gcr3, roots) = (gcr3, [root, other])
      for page in 0..<8 { fixture.guest[fixture.guest.data(UInt64(page))] = UInt64(page) }
      for (index, root) in roots.enumerated() {
        fixture.guest.map(root, 0x7000, to: fixture.guest.data(UInt64(index) * 2))
        fixture.guest.map(root, 0x8000, to: fixture.guest.data(UInt64(index) * 2 + 1))
        fixture.guest.mapLarge(root, 0x60_0000, to: AMDViTables.hostBase)
      }
      fixture.set(fixture.guided(gcr3))
    }

    func load(_ address: UInt64, _ pasid: PASID?) -> UInt64? {
      let (outcome, value) = fixture.port.load(address, pasid: pasid)
      return outcome == .completed ? value : nil
    }

    /// Fills the caches. Then the guest maps page 7 at every address, and the host swaps two pages.
    func change() {
      for pasid in [PASID(rawValue: 1), PASID(rawValue: 2)] {
        for address in [0x7000, 0x8000, 0x60_1000] as [UInt64] { _ = load(address, pasid) }
      }
      _ = load(AMDViTables.hostBase, nil)
      for root in roots {
        for address in [0x7000, 0x8000] as [UInt64] {
          fixture.guest.map(root, address, to: fixture.guest.data(7))
        }
        fixture.guest.mapLarge(root, 0x60_0000, to: AMDViTables.hostBase + 0x20_0000)
      }
    }

    /// The words that the five addresses contain now.
    var values: [UInt64?] {
      [
        load(0x7000, PASID(rawValue: 1)), load(0x8000, PASID(rawValue: 1)),
        load(0x60_1000, PASID(rawValue: 1)), load(0x7000, PASID(rawValue: 2)),
        load(0x8000, PASID(rawValue: 2)),
      ]
    }
  }

  private static let stale: [UInt64?] = [0, 1, 1, 2, 3]

  struct Granule: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let command: AMDViCommand
    /// The indexes of the addresses with a new translation.
    let fresh: Set<Int>

    init(_ name: String, _ command: AMDViCommand, _ fresh: Set<Int>) {
      (testDescription, self.command, self.fresh) = (name, command, fresh)
    }
  }

  private static func pages(
    _ first: UInt64, _ last: UInt64, _ pasid: UInt32?, _ domain: DomainID = AMDViFixture.domain,
    directories: Bool = false
  ) -> AMDViCommand {
    .invalidatePages(
      AMDViPageRange(covering: first, through: last), of: domain,
      pasid: pasid.map { PASID(rawValue: $0) }, directories: directories)
  }

  @Test(
    "INVALIDATE_IOMMU_PAGES invalidates the pages of its range, domain and PASID",
    arguments: [
      Granule("one page of a PASID", pages(0x7000, 0x7fff, 1), [0]),
      Granule("the other page", pages(0x8000, 0x8fff, 1), [1]),
      Granule("16 KiB that hold none", pages(0xc000, 0xffff, 1), []),
      Granule("64 KiB that hold both", pages(0, 0xffff, 1), [0, 1]),
      Granule("a small page of a large one", pages(0x7f_f000, 0x7f_ffff, 1), [2]),
      Granule("the neighbour of a large one", pages(0x80_0000, 0x80_0fff, 1), []),
      Granule("all of a PASID", pages(0, .max, 1), [0, 1, 2]),
      Granule("all of another", pages(0, .max, 2), [3, 4]),
      Granule("all of a PASID that is none", pages(0, .max, 3), []),
      Granule("a page of the host's, at any address", pages(0x1000, 0x1fff, nil), [0, 1, 2, 3, 4]),
      Granule("another domain", pages(0, .max, nil, DomainID(rawValue: 8)), []),
      Granule("another domain's PASID", pages(0, .max, 1, DomainID(rawValue: 8)), []),
      Granule("everything", .invalidateAll, [0, 1, 2, 3, 4]),
      Granule("the device table entry", .invalidateDeviceTableEntry(AMDViFixture.device), []),
    ])
  func granules(_ granule: Granule) throws {
    let cached = try CacheFixture()
    cached.change()
    #expect(cached.values == Self.stale)
    cached.fixture.run(granule.command)
    cached.fixture.guest[AMDViTables.hostBase + 0x20_1000] = 99
    let fresh: [UInt64?] = [7, 7, 99, 7, 7]
    #expect(
      cached.values
        == Self.stale.indices.map { granule.fresh.contains($0) ? fresh[$0] : Self.stale[$0] })
  }

  @Test("a cached host page stays until an invalidation that overlaps it")
  func hostPages() throws {
    let fixture = try AMDViFixture()
    fixture.set(fixture.hosted)
    let (address, other) = (UInt64(0x1000), UInt64(0x2000))
    try fixture.map(address, to: fixture.physical.data(0), length: 0x1000)
    try fixture.map(other, to: fixture.physical.data(1), length: 0x1000)
    for page in 0..<4 { fixture.guest[fixture.guest.data(UInt64(page))] = UInt64(page) }
    #expect(fixture.port.load(address).1 == 0)
    #expect(fixture.port.load(other).1 == 1)
    for page in [address, other] {
      fixture.host.free(fixture.host.unmap(IOVA(page), length: 4096).retired)
    }
    try fixture.map(address, to: fixture.physical.data(2))
    try fixture.map(other, to: fixture.physical.data(3))
    #expect(fixture.port.load(address).1 == 0)
    fixture.run(Self.pages(other, other + 0xfff, 1))
    #expect(fixture.port.load(other).1 == 1)
    fixture.run(Self.pages(other, other + 0xfff, nil))
    #expect(fixture.port.load(other).1 == 3)
    #expect(fixture.port.load(address).1 == 0)
    fixture.run(Self.pages(0, 0xffff, nil))
    #expect(fixture.port.load(address).1 == 2)
  }

  @Test("an invalidation of one address removes all cached pieces of its page")
  func pieces() throws {
    let fixture = try AMDViFixture()
    fixture.set(fixture.hosted)
    // The page has 16 KiB. The unit caches the 4 KiB that were accessed.
    try fixture.map(0x1_0000, to: fixture.physical.data(4), length: 0x4000)
    for page in 0..<4 { _ = fixture.port.load(0x1_0000 + UInt64(page) << 12) }
    let before = fixture.unit.cachedTranslations
    #expect(before == 4)
    fixture.run(Self.pages(0x1_3000, 0x1_3fff, nil))
    #expect(fixture.unit.cachedTranslations == 0)
  }

  @Test("a cached device table entry stays until INVALIDATE_DEVTAB_ENTRY of its device")
  func deviceTable() throws {
    let fixture = try AMDViFixture()
    fixture.set(fixture.hosted)
    #expect(fixture.port.load(AMDViTables.hostBase).0 == .completed)
    var entry = fixture.hosted
    entry.isTranslationValid = false
    fixture.set(entry, flush: false)
    #expect(fixture.port.load(AMDViTables.hostBase).0 == .completed)
    fixture.run(.invalidateDeviceTableEntry(.test(2)), Self.pages(0, .max, nil, directories: true))
    #expect(fixture.port.load(AMDViTables.hostBase).0 == .completed)
    fixture.run(.invalidateDeviceTableEntry(AMDViFixture.device))
    #expect(fixture.port.load(AMDViTables.hostBase).0.amdviEvent?.kind == .pageFault)
  }

  @Test(
    "a cached GCR3 entry stays until an invalidation with PDE of its PASID or domain, or of the device table entry",
    arguments: [
      Granule("without PDE", pages(0, .max, 1), []),
      Granule("PDE of the PASID", pages(0, .max, 1, directories: true), [0]),
      Granule("PDE of another", pages(0, .max, 2, directories: true), [1]),
      Granule("PDE of the domain", pages(0, .max, nil, directories: true), [0, 1]),
      Granule(
        "PDE of another domain", pages(0, .max, nil, DomainID(rawValue: 8), directories: true), []),
    ])
  func guestCR3(_ granule: Granule) throws {
    // A cached upper table would be used as the start of the walk.
    let cached = try CacheFixture(pagingStructures: 0)
    #expect(cached.load(0x7000, one) == 0)
    #expect(cached.load(0x7000, two) == 2)
    // The two GCR3 entries are exchanged.
    cached.fixture.guest[cached.gcr3 + 8] = cached.roots[1] | 1
    cached.fixture.guest[cached.gcr3 + 16] = cached.roots[0] | 1
    cached.fixture.run(Self.pages(0, .max, nil), granule.command)
    #expect(cached.load(0x7000, one) == (granule.fresh.contains(0) ? 2 : 0))
    #expect(cached.load(0x7000, two) == (granule.fresh.contains(1) ? 0 : 2))
    cached.fixture.run(.invalidateDeviceTableEntry(AMDViFixture.device), Self.pages(0, .max, nil))
    #expect(cached.load(0x7000, one) == 2)
    #expect(cached.load(0x7000, two) == 0)
  }

  @Test(
    "cached upper guest tables stay until an invalidation with PDE of their addresses or of the domain"
  )
  func directories() throws {
    let cached = try CacheFixture()
    let guest = cached.fixture.guest
    #expect(cached.load(0x7000, one) == 0)
    #expect(cached.fixture.unit.cachedPagingStructures == 3)
    let top = guest.entry(cached.roots[0], 0x7000, level: 3)
    let entry = guest[top]
    for (range, isStale) in [
      (Self.pages(0x8000, 0x8fff, 1), true),
      (Self.pages(1 << 40, 1 << 40, 1, directories: true), true),
      (Self.pages(0x8000, 0x8fff, 2, directories: true), true),
      (Self.pages(0x8000, 0x8fff, 1, directories: true), false),
      (Self.pages(1 << 40, 1 << 40, nil, directories: true), false), (.invalidateAll, false),
    ] {
      guest[top] = entry
      #expect(cached.load(0x7000, one) == 0)
      guest[top] = 0
      cached.fixture.run(range)
      #expect((cached.load(0x8000, one) == 1) == isStale)
      guest[top] = entry
      cached.fixture.run(Self.pages(0, .max, nil, directories: true))
    }
    // An entry with more permissions needs no invalidation.
    guest[top] = entry & ~2
    #expect(cached.load(0x7000, one) == 0)
    guest[top] = entry
    #expect(cached.fixture.port.store(0, to: 0x7000, pasid: one) == .completed)
  }

  @Test("COMPLETION_WAIT with S stores its data")
  func completion() throws {
    let fixture = try AMDViFixture()
    let place = fixture.physical.physicalAddress(of: fixture.physical.data(0) + 8)
    fixture.run(.completionWait(storing: 0x1234_5678_9abc_def0, at: place))
    #expect(fixture.physical[fixture.physical.data(0) + 8] == 0x1234_5678_9abc_def0)
    var silent = AMDViCommand.completionWait(storing: 1, at: place)
    silent.words[0] &= ~1
    fixture.run(silent)
    #expect(fixture.physical[fixture.physical.data(0) + 8] == 0x1234_5678_9abc_def0)
  }

  @Test(
    "an illegal command stops the command buffer at its index",
    arguments: [
      [0, 0], [9 << 60, 0], [0xf << 60, 0], [2 << 60 | 1 << 16, 0], [2 << 60, 1],
      [3 << 60 | 1 << 20, 0], [3 << 60 | 1 << 48, 0], [3 << 60, 8], [8 << 60, 1], [8 << 60 | 1, 0],
      [1 << 60 | 1 << 52, 0],
    ] as [[UInt64]])
  func illegal(_ words: [UInt64]) throws {
    let fixture = try AMDViFixture()
    fixture.set(fixture.hosted)
    _ = fixture.port.load(AMDViTables.hostBase)
    let bad = AMDViCommand(words: [words[0], words[1]])
    #expect(throws: AMDViUnit.IllegalCommand(index: 1)) {
      try fixture.unit.execute([
        .completionWait(storing: 0, at: fixture.table.base), bad, .invalidateAll,
      ])
    }
    #expect(fixture.unit.cachedTranslations == 1)
  }

  @Test("a command for a feature that the unit lacks is illegal")
  func lacking() throws {
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.invalidateAll = false
    configuration.capabilities.guestTranslation = false
    configuration.capabilities.pageRequests = false
    let fixture = try AMDViFixture(configuration)
    for command in [.invalidateAll, Self.pages(0, .max, 1), AMDViCommand(words: [7 << 60, 0])] {
      #expect(throws: AMDViUnit.IllegalCommand(index: 0)) { try fixture.unit.execute([command]) }
    }
  }
}
