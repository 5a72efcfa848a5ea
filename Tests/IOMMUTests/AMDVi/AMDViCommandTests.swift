import TestSupport
import Testing

@testable import IOMMU

@Suite("AMD-Vi: what is cached, and what each command takes away")
struct AMDViCommandTests {
  private let one = PASID(rawValue: 1)
  private let two = PASID(rawValue: 2)

  /// A guest with two PASIDs, whose pages 0x7000 and 0x8000 hold their number, and a page of 2 MiB.
  private struct Scene {
    let rig: AMDViRig
    let gcr3: UInt64
    let roots: [UInt64]

    init(pagingStructures: Int = 32) throws {
      var configuration = AMDViUnit.Configuration()
      configuration.pagingStructureEntries = pagingStructures
      rig = try AMDViRig(configuration)
      let (gcr3, root) = rig.makeGuest(1, in: rig.guest)
      let other = rig.guest.take()
      rig.guest[gcr3 + 16] = other | 1
      (self.gcr3, roots) = (gcr3, [root, other])
      for page in 0..<8 { rig.guest[rig.guest.data(UInt64(page))] = UInt64(page) }
      for (index, root) in roots.enumerated() {
        rig.guest.map(root, 0x7000, to: rig.guest.data(UInt64(index) * 2))
        rig.guest.map(root, 0x8000, to: rig.guest.data(UInt64(index) * 2 + 1))
        rig.guest.mapLarge(root, 0x60_0000, to: AMDViRig.base)
      }
      rig.set(rig.guided(gcr3))
    }

    func load(_ address: UInt64, _ pasid: PASID?) -> UInt64? {
      let (outcome, value) = rig.port.load(address, pasid: pasid)
      return outcome == .completed ? value : nil
    }

    /// Everything is cached; then the guest maps page 7 everywhere, and the host swaps two pages.
    func change() {
      for pasid in [PASID(rawValue: 1), PASID(rawValue: 2)] {
        for address in [0x7000, 0x8000, 0x60_1000] as [UInt64] { _ = load(address, pasid) }
      }
      _ = load(AMDViRig.base, nil)
      for root in roots {
        for address in [0x7000, 0x8000] as [UInt64] {
          rig.guest.map(root, address, to: rig.guest.data(7))
        }
        rig.guest.mapLarge(root, 0x60_0000, to: AMDViRig.base + 0x20_0000)
      }
    }

    /// What the five of them read now.
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
    /// Which of the five are new.
    let fresh: Set<Int>

    init(_ name: String, _ command: AMDViCommand, _ fresh: Set<Int>) {
      (testDescription, self.command, self.fresh) = (name, command, fresh)
    }
  }

  private static func pages(
    _ first: UInt64, _ last: UInt64, _ pasid: UInt32?, _ domain: DomainID = AMDViRig.domain,
    directories: Bool = false
  ) -> AMDViCommand {
    .invalidatePages(
      AMDViPageRange(covering: first, through: last), of: domain,
      pasid: pasid.map { PASID(rawValue: $0) }, directories: directories)
  }

  @Test(
    "granules of INVALIDATE_IOMMU_PAGES",
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
      Granule("the device table entry", .invalidateDeviceTableEntry(AMDViRig.device), []),
    ])
  func granules(_ granule: Granule) throws {
    let scene = try Scene()
    scene.change()
    #expect(scene.values == Self.stale)
    scene.rig.run(granule.command)
    scene.rig.guest[AMDViRig.base + 0x20_1000] = 99
    let fresh: [UInt64?] = [7, 7, 99, 7, 7]
    #expect(
      scene.values
        == Self.stale.indices.map { granule.fresh.contains($0) ? fresh[$0] : Self.stale[$0] })
  }

  @Test("host pages are stale until an invalidation of an address in them, or of more")
  func hostPages() throws {
    let rig = try AMDViRig()
    rig.set(rig.hosted)
    let (address, other) = (UInt64(0x1000), UInt64(0x2000))
    try rig.map(address, to: rig.physical.data(0), length: 0x1000)
    try rig.map(other, to: rig.physical.data(1), length: 0x1000)
    for page in 0..<4 { rig.guest[rig.guest.data(UInt64(page))] = UInt64(page) }
    #expect(rig.port.load(address).1 == 0)
    #expect(rig.port.load(other).1 == 1)
    for page in [address, other] { rig.host.free(rig.host.unmap(IOVA(page), length: 4096).retired) }
    try rig.map(address, to: rig.physical.data(2))
    try rig.map(other, to: rig.physical.data(3))
    #expect(rig.port.load(address).1 == 0)
    rig.run(Self.pages(other, other + 0xfff, 1))
    #expect(rig.port.load(other).1 == 1)
    rig.run(Self.pages(other, other + 0xfff, nil))
    #expect(rig.port.load(other).1 == 3)
    #expect(rig.port.load(address).1 == 0)
    rig.run(Self.pages(0, 0xffff, nil))
    #expect(rig.port.load(address).1 == 2)
  }

  @Test("a page that is cached in pieces goes as one")
  func pieces() throws {
    let rig = try AMDViRig()
    rig.set(rig.hosted)
    // 16 KiB, of which the unit keeps what was used.
    try rig.map(0x1_0000, to: rig.physical.data(4), length: 0x4000)
    for page in 0..<4 { _ = rig.port.load(0x1_0000 + UInt64(page) << 12) }
    let before = rig.unit.cachedTranslations
    #expect(before == 4)
    rig.run(Self.pages(0x1_3000, 0x1_3fff, nil))
    #expect(rig.unit.cachedTranslations == 0)
  }

  @Test("device table entries are stale until INVALIDATE_DEVTAB_ENTRY of that device")
  func deviceTable() throws {
    let rig = try AMDViRig()
    rig.set(rig.hosted)
    #expect(rig.port.load(AMDViRig.base).0 == .completed)
    var entry = rig.hosted
    entry.isTranslationValid = false
    rig.set(entry, flush: false)
    #expect(rig.port.load(AMDViRig.base).0 == .completed)
    rig.run(.invalidateDeviceTableEntry(.test(2)), Self.pages(0, .max, nil, directories: true))
    #expect(rig.port.load(AMDViRig.base).0 == .completed)
    rig.run(.invalidateDeviceTableEntry(AMDViRig.device))
    #expect(rig.port.load(AMDViRig.base).0.amdviEvent?.kind == .pageFault)
  }

  @Test(
    "GCR3 entries are stale until PDE of their PASID, or of the domain, or the device's entry",
    arguments: [
      Granule("without PDE", pages(0, .max, 1), []),
      Granule("PDE of the PASID", pages(0, .max, 1, directories: true), [0]),
      Granule("PDE of another", pages(0, .max, 2, directories: true), [1]),
      Granule("PDE of the domain", pages(0, .max, nil, directories: true), [0, 1]),
      Granule(
        "PDE of another domain", pages(0, .max, nil, DomainID(rawValue: 8), directories: true), []),
    ])
  func guestCR3(_ granule: Granule) throws {
    // What is cached of upper tables would be where walks begin.
    let scene = try Scene(pagingStructures: 0)
    #expect(scene.load(0x7000, one) == 0)
    #expect(scene.load(0x7000, two) == 2)
    // The two change places.
    scene.rig.guest[scene.gcr3 + 8] = scene.roots[1] | 1
    scene.rig.guest[scene.gcr3 + 16] = scene.roots[0] | 1
    scene.rig.run(Self.pages(0, .max, nil), granule.command)
    #expect(scene.load(0x7000, one) == (granule.fresh.contains(0) ? 2 : 0))
    #expect(scene.load(0x7000, two) == (granule.fresh.contains(1) ? 0 : 2))
    scene.rig.run(.invalidateDeviceTableEntry(AMDViRig.device), Self.pages(0, .max, nil))
    #expect(scene.load(0x7000, one) == 2)
    #expect(scene.load(0x7000, two) == 0)
  }

  @Test("upper guest tables are stale until PDE of their addresses, or of the domain")
  func directories() throws {
    let scene = try Scene()
    let guest = scene.rig.guest
    #expect(scene.load(0x7000, one) == 0)
    #expect(scene.rig.unit.cachedPagingStructures == 3)
    let top = guest.entry(scene.roots[0], 0x7000, level: 3)
    let entry = guest[top]
    for (range, isStale) in [
      (Self.pages(0x8000, 0x8fff, 1), true),
      (Self.pages(1 << 40, 1 << 40, 1, directories: true), true),
      (Self.pages(0x8000, 0x8fff, 2, directories: true), true),
      (Self.pages(0x8000, 0x8fff, 1, directories: true), false),
      (Self.pages(1 << 40, 1 << 40, nil, directories: true), false), (.invalidateAll, false),
    ] {
      guest[top] = entry
      #expect(scene.load(0x7000, one) == 0)
      guest[top] = 0
      scene.rig.run(range)
      #expect((scene.load(0x8000, one) == 1) == isStale)
      guest[top] = entry
      scene.rig.run(Self.pages(0, .max, nil, directories: true))
    }
    // Wider rights need no invalidation.
    guest[top] = entry & ~2
    #expect(scene.load(0x7000, one) == 0)
    guest[top] = entry
    #expect(scene.rig.port.store(0, to: 0x7000, pasid: one) == .completed)
  }

  @Test("COMPLETION_WAIT stores when it is asked to")
  func completion() throws {
    let rig = try AMDViRig()
    let place = rig.physical.place(rig.physical.data(0) + 8)
    rig.run(.completionWait(storing: 0x1234_5678_9abc_def0, at: place))
    #expect(rig.physical[rig.physical.data(0) + 8] == 0x1234_5678_9abc_def0)
    var silent = AMDViCommand.completionWait(storing: 1, at: place)
    silent.words[0] &= ~1
    rig.run(silent)
    #expect(rig.physical[rig.physical.data(0) + 8] == 0x1234_5678_9abc_def0)
  }

  @Test(
    "illegal commands stop the unit where they are",
    arguments: [
      [0, 0], [9 << 60, 0], [0xf << 60, 0], [2 << 60 | 1 << 16, 0], [2 << 60, 1],
      [3 << 60 | 1 << 20, 0], [3 << 60 | 1 << 48, 0], [3 << 60, 8], [8 << 60, 1], [8 << 60 | 1, 0],
      [1 << 60 | 1 << 52, 0],
    ] as [[UInt64]])
  func illegal(_ words: [UInt64]) throws {
    let rig = try AMDViRig()
    rig.set(rig.hosted)
    _ = rig.port.load(AMDViRig.base)
    let bad = AMDViCommand(words: [words[0], words[1]])
    #expect(throws: AMDViUnit.IllegalCommand(index: 1)) {
      try rig.unit.execute([.completionWait(storing: 0, at: rig.table.base), bad, .invalidateAll])
    }
    #expect(rig.unit.cachedTranslations == 1)
  }

  @Test("what the unit lacks is illegal, too")
  func lacking() throws {
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.invalidateAll = false
    configuration.capabilities.guestTranslation = false
    configuration.capabilities.pageRequests = false
    let rig = try AMDViRig(configuration)
    for command in [.invalidateAll, Self.pages(0, .max, 1), AMDViCommand(words: [7 << 60, 0])] {
      #expect(throws: AMDViUnit.IllegalCommand(index: 0)) { try rig.unit.execute([command]) }
    }
  }
}
