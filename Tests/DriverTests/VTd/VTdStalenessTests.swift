// SPDX-License-Identifier: Apache-2.0

import Foundation
import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

/// Random changes of guests' tables, invalidations and requests against a model without caches,
/// which has the possible answers. A translation is one of those that the tables have had since its
/// last invalidation.
@Suite struct VTdStalenessTests {
  /// The translations that the tables have had for each page since its last invalidation.
  private struct Model {
    var possible: [[Int?]]

    mutating func change(_ page: Int, to target: Int?) {
      possible[page].append(target)
    }

    mutating func invalidate(_ pages: Range<Int>) {
      for page in pages.clamped(to: possible.indices) {
        possible[page].removeFirst(possible[page].count - 1)
      }
    }
  }

  private static let pages = 64
  private static let pasids: [UInt32?] = [nil, 3, 4]

  @Test(
    "random requests return translations that the tables have had since the last invalidation",
    arguments: [UInt64(1), 2, 3, 20_261_121], [false, true])
  func randomGuests(seed: UInt64, usesATS: Bool) throws {
    var random = SeededGenerator(seed: seed)
    let guest = try VTdGuestFixture(Self.configuration(seed))
    let roots = Self.pasids.map { _ in guest.makeTable() }
    let domains = try roots.map { try guest.nested($0) }
    var services = DeviceProperties()
    services.pasidBits = 8
    services.hasATS = true
    try guest.fixture.driver.probe(.test(0), services)
    for (pasid, domain) in zip(Self.pasids, domains) { try guest.attach(domain, pasid: pasid) }
    let port = guest.fixture.port(0)
    var models = roots.map { _ in Model(possible: Array(repeating: [nil], count: Self.pages)) }

    for step in 0..<6_000 {
      let space = Int.random(in: 0..<roots.count, using: &random)
      let page = Int.random(in: 0..<Self.pages, using: &random)
      switch Int.random(in: 0..<20, using: &random) {
      case 0..<7:
        let target = Int.random(in: 0..<250, using: &random)
        let isPresent = Int.random(in: 0..<5, using: &random) > 0
        let place = guest.entryAddress(Self.iova(page), in: roots[space])
        guest[place] = isPresent ? UInt64(target) << 12 | VTdGuestFixture.user : 0
        models[space].change(page, to: isPresent ? target : nil)
      case 7:
        let count = UInt64.random(in: 1...8, using: &random)
        let isLeaf = Bool.random(using: &random)
        try guest.invalidate(
          domains[space], Self.iova(page), pages: count, flags: isLeaf ? 1 : 0)
        models[space].invalidate(Self.invalidated(page, Int(count)))
      case 8 where step % 3 == 0:
        try guest.invalidate(domains[space])
        models[space].invalidate(0..<Self.pages)
      default:
        let attributes = DMAAttributes(
          pasid: Self.pasids[space].map { PASID(rawValue: $0) }, usesATS: usesATS)
        let (outcome, value) = port.load(Self.iova(page), attributes)
        let seen: Int? = outcome == .completed ? Int(value) - 1 : nil
        #expect(
          models[space].possible[page].contains(seen),
          "seed \(seed), step \(step), space \(space), page \(page)")
      }
    }
    guest.fixture.faults.drain().forEach { #expect($0.reason == .vtd(.firstStageAbsent)) }
  }

  /// The pages are in two leaf tables.
  private static func iova(_ page: Int) -> UInt64 {
    0x40_0000_0000 + UInt64(page / 32) << 30 + UInt64(page % 32) << 12
  }

  /// The driver widens a range to an aligned power of two.
  private static func invalidated(_ page: Int, _ count: Int) -> Range<Int> {
    let first = iova(page)
    let last = first + UInt64(count) << 12 - 1
    let shift = max(12, 64 - (first ^ last).leadingZeroBitCount)
    let start = (first >> UInt64(shift)) << UInt64(shift)
    let pages = (0..<pages).filter { iova($0) >= start && iova($0) - start < 1 << UInt64(shift) }
    return pages.isEmpty ? 0..<0 : pages[0]..<pages[pages.count - 1] + 1
  }

  /// Returns small or large caches, with or without a paging-structure cache.
  private static func configuration(_ seed: UInt64) -> VTdUnit.Configuration {
    var configuration = VTdUnit.Configuration.nesting
    configuration.iotlb.sets4K = seed % 2 == 0 ? 1 : 128
    configuration.pagingStructureEntries = [0, 1, 32][Int(seed % 3)]
    return configuration
  }

  @Test("a cached translation that is not invalidated stays as long as the cache has room")
  func whatIsCachedStays() throws {
    let guest = try VTdGuestFixture()
    let roots = [guest.makeTable(), guest.makeTable()]
    let domains = try roots.map { try guest.nested($0) }
    try guest.attach(domains[0])
    try guest.attach(domains[1], 1)
    let ports = [guest.fixture.port(0), guest.fixture.port(1)]
    for root in roots {
      for page in 0..<16 as Range<UInt64> { guest.map(page << 12, to: page << 12, in: root) }
    }
    for port in ports {
      for page in 0..<16 as Range<UInt64> { #expect(port.load(page << 12).1 == page + 1) }
    }
    for root in roots {
      for page in 0..<16 as Range<UInt64> { guest.map(page << 12, to: 0x10000, in: root) }
    }
    try guest.invalidate(domains[0], 0x4000, pages: 4)
    for page in 0..<16 as Range<UInt64> {
      #expect(ports[0].load(page << 12).1 == ((4..<8).contains(page) ? 17 : page + 1))
      #expect(ports[1].load(page << 12).1 == page + 1)
    }
    // A change of the second stage invalidates all translations that are nested on it.
    let frame = try #require(guest.parent.physicalAddress(of: IOVA(0)))
    try guest.parent.map(IOVA(1 << 30), to: frame, length: 4096, permissions: .write)
    guest.parent.unmap(IOVA(1 << 30), length: 4096)
    for page in 0..<16 as Range<UInt64> {
      for port in ports { #expect(port.load(page << 12).1 == 17) }
    }
  }

  @Test func aTableIsReachedWithoutTheOnesAbove() throws {
    for entries in [0, 32] {
      var configuration = VTdUnit.Configuration.nesting
      configuration.pagingStructureEntries = entries
      let guest = try VTdGuestFixture(configuration)
      let root = guest.makeTable()
      let domain = try guest.nested(root)
      guest.map(0x1000, to: 0x1000, in: root)
      guest.map(0x2000, to: 0x2000, in: root)
      try guest.attach(domain)
      let port = guest.fixture.port(0)
      #expect(port.load(0x1000).1 == 2)
      let unit = guest.fixture.unit
      #expect(unit.cachedPagingStructures == (entries == 0 ? 0 : 3))
      let top = guest.entryAddress(0x1000, in: root, level: 3)
      let entry = guest[top]
      guest[top] = 0
      #expect(port.load(0x2000).0.reason == (entries == 0 ? .firstStageAbsent : nil))
      #expect(port.load(0x3000).0.reason == .firstStageAbsent)
      try guest.invalidate(domain, 0x1000, pages: 1)
      #expect(port.load(0x1000).0.reason == .firstStageAbsent)
      guest[top] = entry & ~2
      #expect(port.load(0x1000).1 == 2)
      guest[top] = entry
      #expect(port.store(1, to: 0x1008) == .completed, "more rights need no invalidation")
    }
  }
}
