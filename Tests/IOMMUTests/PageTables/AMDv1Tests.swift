// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU

@Suite struct AMDv1Tests {
  let memory: PhysicalMemory

  init() throws { memory = try PhysicalMemory(.test) }

  /// AMD 48882 §2.2.3.
  @Test("entries have PR, IR, IW, the next level, the address and the encoded page size")
  func entriesHaveTheSpecificationsBits() {
    let at = PhysicalAddress(0x12_4000_0000)
    #expect(AMDv1.makeTable(at: at, level: 2) == 0x6000_0012_4000_0401)
    let plain = AMDv1.makeLeaf(at: at, level: 0, permissions: .read, snoops: false)
    #expect(plain == 0x2000_0012_4000_0001)
    let coherent = AMDv1.makeLeaf(at: at, level: 1, permissions: .write, snoops: true)
    #expect(coherent == 0x5000_0012_4000_0001)
    // Table 14: the address of a page of 8 KiB ends in 0, of 16 KiB in 01, of 32 KiB in 011.
    for (shift, address) in [(13, 0x0), (14, 0x1000), (15, 0x3000), (20, 0x7_f000)]
      as [(Int, UInt64)]
    {
      let entry = AMDv1.makeLeaf(
        at: at, level: 0, shift: shift, permissions: [.read, .write], snoops: false)
      #expect(entry == 0x6000_0012_4000_0e01 | address)
    }
  }

  @Test("the mock unit's entries hold addresses in units of 2 KiB")
  func halfPages() {
    let at = PhysicalAddress(0x12_4000_0800)
    let entry = AMDv1Mock.makeLeaf(at: at, level: 0, permissions: .read, snoops: false)
    #expect(entry == 0x2000_0024_8000_1001)
    #expect(AMDv1Mock.address(entry) == at)
    #expect(AMDv1Mock.leafShift(entry, level: 0) == 11)
    let whole = AMDv1Mock.makeLeaf(
      at: PhysicalAddress(0x12_4000_1000), level: 0, shift: 12, permissions: .read, snoops: false)
    #expect(whole == 0x2000_0024_8000_2e01)
    #expect(AMDv1Mock.address(whole) == PhysicalAddress(0x12_4000_1000))
  }

  @Test("a leaf of each page size reads back as it was built", arguments: 0..<5)
  func everySizeRoundTrips(level: Int) {
    let sizes = AMDv1.possibleSizes(level: level)
    var shifts = (0..<64).filter { sizes & 1 << UInt64($0) != 0 }
    let first = 12 + 9 * level
    var expected = Array(first..<min(52, first + 9))
    expected.removeAll { $0 == 39 }
    #expect(shifts == expected)
    if level == 4 { shifts.removeAll { $0 > 50 } }
    for shift in shifts {
      let at = PhysicalAddress(shift == 51 ? 0 : 1 << UInt64(shift))
      for permissions in [.read, .write, [.read, .write]] as [Permissions] {
        let entry = AMDv1.makeLeaf(
          at: at, level: level, shift: shift, permissions: permissions, snoops: true)
        #expect(AMDv1.classify(entry, level: level) == .leaf)
        #expect(AMDv1.address(entry) == at)
        #expect(AMDv1.leafShift(entry, level: level) == shift)
        #expect(AMDv1.permissions(entry) == permissions)
      }
    }
    #expect(AMDv1.possibleSizes(level: 5) == 0)
  }

  @Test("a table has the page sizes of its levels, like the kernel's mock")
  func sizesOfATable() throws {
    let mock = try PagingTable(mockWithPageSizes: nil, memory: memory)
    #expect(mock.pageSizes == 1 << 37 - 1 << 11)
    let host = try PagingTable(amdv1Levels: 3, pageSizes: .max, memory: memory)
    #expect(host.pageSizes == 1 << 38 - 1 << 12)
    let six = try PagingTable(amdv1Levels: 6, pageSizes: .max, memory: memory)
    #expect(six.pageSizes == (1 << 52 - 1 << 12) & ~(1 << 39))
    mock.destroy()
    host.destroy()
    six.destroy()
    #expect(memory.tablePagesInUse == 0)
  }

  private func mapper(_ sizes: UInt64 = .max) throws -> RadixMapper<AMDv1Mock> {
    try RadixMapper(topLevel: 2, pageSizes: sizes, memory: memory)
  }

  private func map(
    _ mapper: RadixMapper<AMDv1Mock>, _ iova: UInt64, to physical: UInt64, _ length: UInt64
  ) -> Errno? {
    var mapping = MapRequest(
      IOVA(iova), to: PhysicalAddress(physical), length: length, permissions: [.read, .write],
      snoops: false)
    let error = mapper.map(&mapping)
    mapping.retired.forEach { memory.freeTable($0) }
    return error
  }

  private func pages(_ mapper: RadixMapper<AMDv1Mock>) -> [UInt64: Int] {
    var pages: [UInt64: Int] = [:]
    mapper.forEachLeaf { iova, entry, level in
      let shift = AMDv1Mock.leafShift(entry, level: level)
      pages[iova & ~(1 << UInt64(shift) - 1)] = shift
    }
    return pages
  }

  @Test("map() uses the largest page that fits the IOVA, the physical address and the length")
  func thePageIsTheLargestThatFits() throws {
    let mapper = try mapper()
    defer { mapper.destroy() }
    // The range begins 2 KiB below a multiple of 16 KiB, so its pages have 2, 16, 4 and 2 KiB.
    #expect(map(mapper, 0x3800, to: 0x1_0000_3800, 0x800 + 0x4000 + 0x1800) == nil)
    #expect(pages(mapper) == [0x3800: 11, 0x4000: 14, 0x8000: 12, 0x9000: 11])
    #expect(mapper.physicalAddress(of: IOVA(0x5a23)) == PhysicalAddress(0x1_0000_5a23))
    #expect(mapper.physicalAddress(of: IOVA(0x9800)) == nil)
    // The range overlaps a page that has several entries, from either side.
    #expect(map(mapper, 0x7800, to: 0, 0x800) == .addressInUse)
    #expect(map(mapper, 0, to: 0x2_0000_0000, 0x8000) == .addressInUse)
    #expect(pages(mapper).count == 4)
    // A table with some of the page sizes.
    let huge = try self.mapper(1 << 12 | 1 << 20)
    defer { huge.destroy() }
    #expect(map(huge, 0xff000, to: 0x1_000f_f000, 0x10_2000) == nil)
    #expect(pages(huge) == [0xff000: 12, 0x10_0000: 20, 0x20_0000: 12])
    #expect(map(huge, 0x800, to: 0, 0x800) == .invalidArgument)
  }

  @Test("a page that has several entries is unmapped as a whole")
  func pagesOfSeveralEntriesAreUnmappedWhole() throws {
    let mapper = try mapper()
    defer { mapper.destroy() }
    #expect(map(mapper, 0x10000, to: 0x1_0000, 0x1_0000) == nil)
    #expect(mapper.unmap(IOVA(0x10800), length: 0x800).length == 0)
    #expect(pages(mapper) == [0x10000: 16])
    let unmapped = mapper.unmap(IOVA(0x10000), length: 0x800)
    #expect(unmapped.length == 0x10000)
    #expect(pages(mapper).isEmpty)
    unmapped.retired.forEach { memory.freeTable($0) }
    // A page with several entries replaces empty tables.
    #expect(map(mapper, 0, to: 0x800, 0x800) == nil)
    mapper.unmap(IOVA(0), length: 0x800).retired.forEach { memory.freeTable($0) }
    #expect(map(mapper, 0, to: 0, 8 << 20) == nil)
    #expect(pages(mapper) == [0: 23])
  }

  @Test("a write through any entry of a page makes the whole page dirty")
  func dirtyPages() throws {
    let mapper = try mapper()
    defer { mapper.destroy() }
    #expect(map(mapper, 0x4000, to: 0x4000, 0x4000 + 0x1000) == nil)
    func dirty(_ range: ClosedRange<UInt64>, clearing: Bool = false) -> [[UInt64]] {
      var found: [[UInt64]] = []
      mapper.readDirty(
        IOVA(range.lowerBound)...IOVA(range.upperBound), clearing: clearing
      ) { found.append([$0.rawValue, $1]) }
      return found
    }
    #expect(dirty(0...1 << 38 - 1) == [])
    #expect(mapper.setDirty(IOVA(0x6801)))
    #expect(mapper.setDirty(IOVA(0x8000)))
    #expect(!mapper.setDirty(IOVA(0x9000)))
    let both: [[UInt64]] = [[0x4000, 0x4000], [0x8000, 0x1000]]
    #expect(dirty(0...1 << 38 - 1) == both)
    // Whole pages are reported for every range and for every entry that was written through.
    #expect(dirty(0x4800...0x4fff) == [both[0]])
    #expect(dirty(0x7fff...0x8000, clearing: true) == both)
    #expect(dirty(0...1 << 38 - 1) == [])
  }

  @Test("random mappings agree with a dictionary of 2 KiB granules", arguments: [1, 2, 3])
  func agreesWithADictionary(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let mapper = try mapper()
    defer { mapper.destroy() }
    var model: [UInt64: UInt64] = [:]
    for _ in 0..<2000 {
      let first = random.next() % 4096
      let count = 1 + random.next() % (random.next() % 8 == 0 ? 2048 : 16)
      if random.next() % 3 > 0 {
        let isFree = (first..<first + count).allSatisfy { model[$0] == nil }
        let physical = random.next() % 2 == 0 ? first + 1 << 20 : random.next() % (1 << 24)
        guard isFree else { continue }
        try #require(map(mapper, first << 11, to: physical << 11, count << 11) == nil)
        for index in 0..<count { model[first + index] = physical + index }
      } else {
        let result = mapper.unmap(IOVA(first << 11), length: count << 11)
        result.retired.forEach { memory.freeTable($0) }
        for index in first..<first + result.length >> 11 {
          #expect(model.removeValue(forKey: index) != nil)
        }
      }
      let probe = random.next() % 6144
      #expect(
        mapper.physicalAddress(of: IOVA(probe << 11))?.rawValue == model[probe].map { $0 << 11 })
    }
    for index in 0..<6144 as Range<UInt64> {
      #expect(
        mapper.physicalAddress(of: IOVA(index << 11 | 5))?.rawValue
          == model[index].map { $0 << 11 | 5 })
    }
  }
}
