// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU

private let sizes4K: UInt64 = 1 << 12
private let allSizes: UInt64 = 1 << 12 | 1 << 21 | 1 << 30

@Suite struct PagingTableTests {
  let memory: PhysicalMemory

  init() throws { memory = try PhysicalMemory(.test) }

  private func mapper(levels: Int = 4, _ sizes: UInt64 = allSizes) throws
    -> RadixMapper<VTdSecondStage>
  {
    try RadixMapper(topLevel: levels - 1, pageSizes: sizes, memory: memory)
  }

  private func leaves(_ mapper: RadixMapper<VTdSecondStage>) -> [[UInt64]] {
    var result: [[UInt64]] = []
    mapper.forEachLeaf { result.append([$0, $1, UInt64($2)]) }
    return result
  }

  /// VT-d §9.8.
  @Test("each kind of entry has the bits of the specification")
  func entriesHaveTheSpecificationsBits() {
    let at = PhysicalAddress(0x12_4000_0000)
    #expect(VTdSecondStage.makeTable(at: at, level: 3) == 0x12_4000_0003)
    #expect(
      VTdSecondStage.makeLeaf(at: at, level: 0, permissions: .read, snoops: false)
        == 0x12_4000_0001)
    #expect(
      VTdSecondStage.makeLeaf(at: at, level: 1, permissions: .write, snoops: true)
        == 0x12_4000_0882)
    #expect(
      VTdSecondStage.makeLeaf(at: at, level: 2, permissions: [.read, .write], snoops: false)
        == 0x12_4000_0083)
  }

  @Test("a leaf reads back as it was built", arguments: [0, 1, 2], [1, 2, 3] as [UInt8])
  func leavesRoundTrip(level: Int, permissions: UInt8) {
    let at = PhysicalAddress(0x3fff_c000_0000)
    let permissions = Permissions(rawValue: permissions)
    let rules = VTdSecondStage.rules(addressBits: 46, pageSizes: 3, controlsSnooping: true)
    for snoops in [false, true] {
      let entry = VTdSecondStage.makeLeaf(
        at: at, level: level, permissions: permissions, snoops: snoops)
      #expect(VTdSecondStage.classify(entry, level: level) == .leaf)
      #expect(VTdSecondStage.address(entry) == at)
      #expect(VTdSecondStage.permissions(entry) == permissions)
      #expect(entry & rules.reservedInLeaf[level] == 0)
    }
  }

  @Test("the reserved bits depend on the address width, the page sizes and snoop control")
  func reservedBitsFollowTheCapabilities() {
    func isReserved(_ entry: UInt64, _ level: Int, bits: Int, sizes: UInt64, snoop: Bool) -> Bool {
      let rules = VTdSecondStage.rules(
        addressBits: bits, pageSizes: sizes, controlsSnooping: snoop)
      let reserved =
        VTdSecondStage.classify(entry, level: level) == .leaf
        ? rules.reservedInLeaf[level] : rules.reservedInTable[level]
      return entry & reserved != 0
    }
    // SNP without SC, an address beyond HAW, PS at a level without pages, misaligned large pages,
    // and TM.
    #expect(isReserved(0x1803, 0, bits: 46, sizes: 3, snoop: false))
    #expect(!isReserved(0x1803, 0, bits: 46, sizes: 3, snoop: true))
    #expect(isReserved(1 << 46 | 3, 0, bits: 46, sizes: 3, snoop: true))
    #expect(!isReserved(1 << 45 | 3, 0, bits: 46, sizes: 3, snoop: true))
    #expect(isReserved(0x83, 3, bits: 46, sizes: 3, snoop: true))
    #expect(isReserved(0x20_0083, 1, bits: 46, sizes: 2, snoop: true))
    #expect(isReserved(0x4000_0083, 2, bits: 46, sizes: 1, snoop: true))
    #expect(isReserved(0x20_1083, 1, bits: 46, sizes: 3, snoop: true))
    #expect(isReserved(1 << 62 | 0x1003, 0, bits: 46, sizes: 3, snoop: true))
    // Bits [61:52], [63], A and D are ignored.
    #expect(!isReserved(1 << 63 | 0x3ff << 52 | 0x1303, 0, bits: 46, sizes: 3, snoop: true))
  }

  @Test("map() uses the largest pages that fit")
  func theLargestPagesThatFit() throws {
    let mapper = try mapper()
    var mapping = MapRequest(
      IOVA(0x3fff_f000), to: PhysicalAddress(0x1_3fff_f000),
      length: 0x1000 + 1 << 30 + 2 << 21 + 0x3000, permissions: .read, snoops: false)
    #expect(mapper.map(&mapping) == nil)
    let levels = leaves(mapper).map { $0[2] }
    #expect(levels == [0, 2, 1, 1, 0, 0, 0])
    #expect(mapper.physicalAddress(of: IOVA(0x8020_1234)) == PhysicalAddress(0x1_8020_1234))
    #expect(mapper.physicalAddress(of: IOVA(0x3fff_efff)) == nil)
    // Large pages are not used when IOVA and physical address differ in alignment, or when the unit
    // does not support them.
    var askew = MapRequest(
      IOVA(1 << 40), to: PhysicalAddress(0x1_0000_1000), length: 1 << 21, permissions: .read,
      snoops: false)
    #expect(mapper.map(&askew) == nil)
    #expect(leaves(mapper).count == 7 + 512)
    let small = try self.mapper(sizes4K)
    var plain = MapRequest(
      IOVA(0), to: PhysicalAddress(0), length: 1 << 21, permissions: .read, snoops: false)
    #expect(small.map(&plain) == nil)
    #expect(leaves(small).count == 512)
  }

  @Test("unmap() removes whole pages and nothing when the range begins inside a page")
  func unmapRemovesWholePages() throws {
    let mapper = try mapper()
    var mapping = MapRequest(
      IOVA(0), to: PhysicalAddress(0), length: 2 << 21, permissions: .read, snoops: false)
    #expect(mapper.map(&mapping) == nil)
    // A range that begins inside a page unmaps nothing. A range that ends inside a page unmaps the
    // whole page.
    #expect(mapper.unmap(IOVA(0x1000), length: 0x1000).length == 0)
    #expect(mapper.unmap(IOVA(0), length: 0x1000).length == 1 << 21)
    #expect(mapper.unmap(IOVA(0), length: 1 << 21).length == 0)
    let last = mapper.unmap(IOVA(1 << 21), length: 1 << 21)
    #expect(last.length == 1 << 21)
    #expect(last.retired.count == 2)
    #expect(leaves(mapper).isEmpty)
  }

  @Test("a table is freed when its last entry is removed")
  func tablesAreFreedWhenEmpty() throws {
    let mapper = try mapper(levels: 5)
    let before = memory.tablePagesInUse
    var mapping = MapRequest(
      IOVA(1 << 56 - 0x3000), to: PhysicalAddress(0x1000), length: 0x3000, permissions: .read,
      snoops: false)
    #expect(mapper.map(&mapping) == nil)
    #expect(memory.tablePagesInUse == before + 4)
    #expect(mapper.unmap(IOVA(1 << 56 - 0x3000), length: 0x2000).retired.isEmpty)
    let unmapped = mapper.unmap(IOVA(1 << 56 - 0x1000), length: 0x1000)
    #expect(unmapped.retired.count == 4)
    unmapped.retired.forEach { memory.freeTable($0) }
    #expect(memory.tablePagesInUse == before)
    mapper.destroy()
    #expect(memory.tablePagesInUse == before - 1)
  }

  @Test("map() returns the length that it mapped before an error")
  func failedMap() throws {
    var limits = PhysicalMemory.Limits.test
    limits.tablePages = 4
    let memory = try PhysicalMemory(limits)
    let table = try PagingTable(
      vtdSecondStageLevels: 4, pageSizes: sizes4K, memory: memory)
    let result = table.map(
      IOVA(0x1f_f000), to: PhysicalAddress(0x1000), length: 0x2000, permissions: .read,
      snoops: false)
    #expect(result.error == .noMemory)
    #expect(result.mapped == 0x1000)
    let overlap = table.map(
      IOVA(0x1f_f000), to: PhysicalAddress(0x1000), length: 0x1000, permissions: .read,
      snoops: false)
    #expect(overlap.error == .addressInUse && overlap.mapped == 0)
    table.free(table.unmap(IOVA(0x1f_f000), length: 0x1000).retired)
    #expect(memory.tablePagesInUse == 1)
  }

  @Test(
    "mapper and walker agree with a dictionary of 4 KiB pages after random maps and unmaps",
    arguments: [3, 4, 5], [1, 2, 3] as [UInt64])
  func mapperAndWalkerAgreeWithADictionary(levels: Int, seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let mapper = try mapper(levels: levels)
    let before = memory.tablePagesInUse
    let span = UInt64(1) << 31
    let base = UInt64(1) << UInt64(9 * levels + 12) - span
    var model: [UInt64: (physical: UInt64, permissions: Permissions)] = [:]
    var live: [(start: UInt64, length: UInt64)] = []
    let rules = VTdSecondStage.rules(addressBits: 46, pageSizes: 3, controlsSnooping: true)
    let root = TableRoot(address: mapper.root, topLevel: levels - 1, updatesFlags: false)

    func check(_ iova: UInt64) {
      let expected = model[iova & ~0xfff]
      #expect(
        mapper.physicalAddress(of: IOVA(iova))?.rawValue
          == expected.map { $0.physical | iova & 0xfff }, "seed \(seed), iova \(iova)")
      var window = memory.window
      let outcome = RadixWalker<VTdSecondStage>.walk(
        iova, root, access: .read, rules: rules, memory: &window)
      switch outcome {
      case .leaf(let page):
        let offset = iova & (1 << UInt64(page.shift) - 1)
        #expect(
          page.physical.rawValue + offset == expected.map { $0.physical | iova & 0xfff },
          "seed \(seed), iova \(iova)")
        #expect(page.permissions == expected?.permissions, "seed \(seed)")
      case .fault(let fault):
        let isWriteOnly = expected?.permissions == .write
        let isDenied = if case .denied(_, allowed: .write) = fault { true } else { false }
        #expect(expected == nil || (isWriteOnly && isDenied), "seed \(seed)")
      }
    }

    for _ in 0..<60 {
      if live.isEmpty || random.next() % 3 != 0 {
        let shift = [12, 12, 14, 21, 21, 22][Int(random.next() % 6)]
        let length = (random.next() % 4 + 1) << UInt64(shift)
        let start = base + (random.next() % (span - length)) & ~(1 << UInt64(shift) - 1)
        let physical = (random.next() % (1 << 40)) & ~(1 << UInt64(shift) - 1)
        let permissions = Permissions(rawValue: UInt8(random.next() % 3 + 1))
        guard !live.contains(where: { $0.start < start + length && start < $0.start + $0.length })
        else { continue }
        var mapping = MapRequest(
          IOVA(start), to: PhysicalAddress(physical), length: length, permissions: permissions,
          snoops: false)
        #expect(mapper.map(&mapping) == nil, "seed \(seed)")
        mapping.retired.forEach { memory.freeTable($0) }
        for page in stride(from: 0, to: length, by: 4096) {
          model[start + page] = (physical + page, permissions)
        }
        live.append((start, length))
        check(start)
        check(start + length - 1)
        check(start + length)
      } else {
        let (start, length) = live.remove(at: Int(random.next() % UInt64(live.count)))
        let unmapped = mapper.unmap(IOVA(start), length: length)
        #expect(unmapped.length == length, "seed \(seed)")
        unmapped.retired.forEach { memory.freeTable($0) }
        for page in stride(from: 0, to: length, by: 4096) { model[start + page] = nil }
        check(start)
        check(start + length - 1)
      }
    }
    for _ in 0..<200 { check(base + random.next() % span) }
    for (iova, _) in model.prefix(2000) { check(iova | random.next() & 0xfff) }
    for (start, length) in live {
      mapper.unmap(IOVA(start), length: length).retired.forEach { memory.freeTable($0) }
    }
    #expect(memory.tablePagesInUse == before, "seed \(seed)")
  }
}
