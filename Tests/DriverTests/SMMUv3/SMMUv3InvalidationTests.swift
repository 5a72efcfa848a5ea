// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite("SMMUv3: invalidation by guest commands")
struct SMMUv3InvalidationTests {
  private let fixture: SMMUv3Fixture
  private let guest: SMMUv3GuestMemory

  init() throws {
    var configuration = SMMUv3Unit.Configuration()
    // The caches replace nothing, so their contents are known.
    configuration.iotlb.sets4K = 512
    configuration.contextCacheSets = 64
    fixture = try SMMUv3Fixture(configuration)
    guest = fixture.guest
    fixture.addVirtualDevice()
  }

  @Test(
    "commands are sent in blocks of 63, and the commands before a bad one in its block are counted but not sent"
  )
  func blocks() throws {
    let root = guest.allocate()
    let descriptors = guest.allocate()
    let pages = [guest.allocate(), guest.allocate()]
    for (value, page) in pages.enumerated() { guest[page] = UInt64(value) }
    guest.store(.test(root, asid: 1), at: descriptors)
    try fixture.attach(try fixture.makeStage1(descriptors))
    func load() -> UInt64 { fixture.port.load(0x5000).1 }
    let good = SMMUv3Command.tlbi(.tlbiAll)
    let bad = SMMUv3Command(lower: 0x28, upper: 0)
    for (before, isSent) in [(1, false), (62, false), (63, true), (64, true)] {
      guest.map(root, 0x5000, to: pages[0])
      fixture.send([good])
      #expect(load() == 0)
      guest.map(root, 0x5000, to: pages[1])
      let result = fixture.send(Array(repeating: good, count: before) + [bad, good])
      #expect(result.handled == before && result.error == .ioError)
      #expect(load() == (isSent ? 1 : 0))
    }
  }

  /// The values of the tables and of the caches. A cached value stays until it is invalidated.
  private struct Model {
    /// The values in the table and in the cache, by address space and page.
    var stored: [[Int]]
    var cached: [[Int?]]
    /// The address space of the context descriptor of a PASID, in memory and in the cache.
    var context: [Int]
    var cachedContext: [Int?]
  }

  private static let spaces = 4
  private static let pages = 8
  private static let pasids = 3
  private static let values = 5
  /// Each range of 2 MiB has two of the pages.
  private static func address(_ page: Int) -> UInt64 {
    UInt64(page / 2) << 21 | UInt64(page % 2) << 12 | 0x4_0000_0000
  }

  @Test("random changes and commands agree with a model", arguments: [1, 2, 3, 20_261_121])
  func random(_ seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let descriptors = guest.allocate()
    let roots = (0..<Self.spaces).map { _ in guest.allocate() }
    let targets = (0..<Self.values).map { _ in guest.allocate() }
    for (value, page) in targets.enumerated() { guest[page] = UInt64(value) }
    var model = Model(
      stored: Array(repeating: Array(repeating: 0, count: Self.pages), count: Self.spaces),
      cached: Array(repeating: Array(repeating: nil, count: Self.pages), count: Self.spaces),
      context: Array(repeating: 0, count: Self.pasids),
      cachedContext: Array(repeating: nil, count: Self.pasids))
    for space in 0..<Self.spaces {
      for page in 0..<Self.pages {
        guest.map(roots[space], Self.address(page), to: targets[0])
      }
    }
    func store(_ pasid: Int, _ space: Int) {
      guest.store(
        ContextDescriptor.test(roots[space], asid: UInt16(100 + space)),
        at: descriptors + UInt64(pasid + 1) * 64)
      model.context[pasid] = space
    }
    for pasid in 0..<Self.pasids { store(pasid, pasid) }
    try fixture.attach(try fixture.makeStage1(descriptors))

    for step in 0..<40_000 {
      let (space, page) = (
        Int.random(in: 0..<Self.spaces, using: &random),
        Int.random(in: 0..<Self.pages, using: &random)
      )
      let pasid = Int.random(in: 0..<Self.pasids, using: &random)
      switch Int.random(in: 0..<20, using: &random) {
      case 0..<5:
        let value = Int.random(in: 0..<Self.values, using: &random)
        guest.map(roots[space], Self.address(page), to: targets[value])
        model.stored[space][page] = value
      case 5..<14:
        let using = model.cachedContext[pasid] ?? model.context[pasid]
        model.cachedContext[pasid] = using
        let expected = model.cached[using][page] ?? model.stored[using][page]
        model.cached[using][page] = expected
        let (outcome, value) = fixture.port.load(
          Self.address(page), pasid: PASID(rawValue: UInt32(pasid + 1)))
        #expect(
          outcome == .completed && value == UInt64(expected), "seed \(seed), step \(step)")
        if value != UInt64(expected) { return }
      case 14: store(pasid, space)
      default:
        fixture.send([command(space, page, pasid, &model, &random)])
      }
    }
  }

  /// Makes a random command and invalidates its scope in the model.
  private func command(
    _ space: Int, _ page: Int, _ pasid: Int, _ model: inout Model,
    _ random: inout SeededGenerator
  ) -> SMMUv3Command {
    let asid = UInt16(100 + space)
    let address = Self.address(page)
    switch Int.random(in: 0..<12, using: &random) {
    case 0..<3:
      model.cached[space][page] = nil
      var command = SMMUv3Command.tlbi(.tlbiAddress, asid: asid, vmid: 9)
      command.setAddress(address, isLeaf: Bool.random(using: &random))
      return command
    case 3:
      for space in 0..<Self.spaces { model.cached[space][page] = nil }
      var command = SMMUv3Command.tlbi(.tlbiAddressAllASIDs)
      command.setAddress(address, isLeaf: true)
      return command
    case 4:
      for page in 0..<Self.pages { model.cached[space][page] = nil }
      return .tlbi(.tlbiASID, asid: asid)
    case 5..<8:
      // A range invalidation of the leaves of one level.
      let scale = UInt64.random(in: 0...10, using: &random)
      let count = UInt64.random(in: 1...32, using: &random)
      let level = Int.random(in: 1...3, using: &random)
      let granule = [12, 12, 14, 16].randomElement(using: &random) ?? 12
      let last = address + count << (scale + UInt64(granule)) - 1
      if granule == 12, level == 3 {
        for page in 0..<Self.pages where (address...last).contains(Self.address(page)) {
          model.cached[space][page] = nil
        }
      }
      var command = SMMUv3Command.tlbi(.tlbiAddress, asid: asid)
      command.setRange(
        address, granuleShift: granule, count: count, scale: scale,
        levelHint: granule == 14 && level == 1 ? 2 : level, isLeaf: true)
      return command
    case 8:
      model.cachedContext[pasid] = nil
      return .invalidateContext(
        StreamID(rawValue: UInt32(SMMUv3Fixture.virtualStream)),
        substream: PASID(rawValue: UInt32(pasid + 1)), isLeaf: true)
    case 9:
      for pasid in 0..<Self.pasids { model.cachedContext[pasid] = nil }
      return SMMUv3Command(lower: 6 | SMMUv3Fixture.virtualStream << 32, upper: 0)
    case 10:
      // An ASID that no address space has.
      return .tlbi(.tlbiASID, asid: 5)
    default:
      for space in 0..<Self.spaces {
        for page in 0..<Self.pages { model.cached[space][page] = nil }
      }
      return .tlbi(Bool.random(using: &random) ? .tlbiAll : .tlbiEverything)
    }
  }
}
