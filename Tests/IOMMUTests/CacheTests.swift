// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import IOMMU

@Suite struct CacheTests {
  private let one = IOTLBTag(domain: DomainID(rawValue: 1))
  private let two = IOTLBTag(domain: DomainID(rawValue: 2))

  private func page(_ physical: UInt64, shift: Int = 12, _ permissions: Permissions = .read)
    -> Translation
  {
    Translation(physical: PhysicalAddress(physical), shift: shift, permissions: permissions)
  }

  @Test("a lookup hits only with the same tag and page, and an insertion replaces the entry")
  func hitsAreExact() {
    var iotlb = IOTLB(IOTLBGeometry())
    iotlb.insert(one, IOVA(0x1234), page(0xa000, [.read, .write]))
    #expect(iotlb.lookup(one, IOVA(0x1fff)) == page(0xa000, [.read, .write]))
    #expect(iotlb.lookup(one, IOVA(0x2000)) == nil)
    #expect(iotlb.lookup(two, IOVA(0x1000)) == nil)
    #expect(iotlb.lookup(one, IOVA(1 << 63 | 0x1000)) == nil)
    iotlb.insert(one, IOVA(0x1000), page(0xb000))
    #expect(iotlb.lookup(one, IOVA(0x1000)) == page(0xb000))
    #expect(iotlb.count == 1)
  }

  @Test("a walk caches the tables of the last value that it read from each entry")
  func changedEntries() {
    var steps = WalkedEntries()
    for (place, entry): (UInt64, UInt64?) in [
      (0x1008, 0x5007), (0x1008, 0x6005), (0x6010, 0x8007), (0x8000, nil), (0x8000, 0x9007),
    ] {
      steps.record(entry, at: PhysicalAddress(place))
    }
    var found: [PagingStructureCache.CachedTable] = []
    let root = TableRoot(address: PhysicalAddress(0x1000), topLevel: 2, updatesFlags: true)
    steps.forEachTable(of: VTdFirstStage.self, from: root) { found.append($0) }
    #expect(found.map(\.table.rawValue) == [0x6000, 0x8000])
    #expect(found.map(\.level) == [1, 0])
    #expect(found.map { $0.grant & 7 } == [5, 5])
  }

  @Test("a page is cached at its size, or at the next smaller size that has an array")
  func pageSizes() {
    var iotlb = IOTLB(IOTLBGeometry())
    iotlb.insert(one, IOVA(0x40_0123), page(0x8000_0000, shift: 21))
    iotlb.insert(one, IOVA(5 << 30), page(0x1_0000_0000, shift: 30))
    #expect(iotlb.lookup(one, IOVA(0x5f_ffff)) == page(0x8000_0000, shift: 21))
    #expect(iotlb.lookup(one, IOVA(5 << 30 + 77)) == page(0x1_0000_0000, shift: 30))
    // A page whose size has no array is cached as the 4 KiB that were accessed.
    iotlb.insert(two, IOVA(0x1_5000), page(0xc_0000, shift: 16))
    #expect(iotlb.lookup(two, IOVA(0x1_5abc)) == page(0xc_5000))
    #expect(iotlb.lookup(two, IOVA(0x1_6000)) == nil)
  }

  @Test("an invalidation removes the entries of its scope and no others")
  func invalidationScopes() {
    func filled() -> IOTLB {
      var iotlb = IOTLB(IOTLBGeometry())
      for tag in [one, two] {
        for index in 0..<4 as Range<UInt64> {
          iotlb.insert(tag, IOVA(index << 12), page(index << 12))
        }
        iotlb.insert(tag, IOVA(0x20_0000), page(0x20_0000, shift: 21))
        iotlb.insert(tag, IOVA(0x4000_0000), page(0x4000_0000, shift: 30))
      }
      return iotlb
    }
    func left(_ scope: InvalidationScope) -> Int {
      var iotlb = filled()
      iotlb.invalidate(scope)
      return iotlb.count
    }
    let domain = DomainID(rawValue: 1)
    #expect(left(.global) == 0)
    #expect(left(.domain(domain)) == 6)
    #expect(left(.domain(DomainID(rawValue: 9))) == 12)
    #expect(left(.pages(domain, IOVA(0x2000), shift: 12)) == 11)
    #expect(left(.pages(domain, IOVA(0x2000), shift: 13)) == 10)
    // One page inside a large page drops the large page.
    #expect(left(.pages(domain, IOVA(0x33_3000), shift: 12)) == 11)
    #expect(left(.pages(domain, IOVA(0x7fff_f000), shift: 12)) == 11)
    #expect(left(.pages(domain, IOVA(0), shift: 30)) == 7)
    #expect(left(.pages(domain, IOVA(0), shift: 64)) == 6)
  }

  @Test("a full set replaces the least recently used entry")
  func leastRecentlyUsedEntry() {
    var geometry = IOTLBGeometry()
    geometry.sets4K = 1
    var iotlb = IOTLB(geometry)
    for index in 0..<8 as Range<UInt64> { iotlb.insert(one, IOVA(index << 12), page(index << 12)) }
    #expect(iotlb.lookup(one, IOVA(0)) != nil)
    iotlb.insert(one, IOVA(8 << 12), page(8 << 12))
    #expect(iotlb.lookup(one, IOVA(0)) != nil)
    #expect(iotlb.lookup(one, IOVA(1 << 12)) == nil)
    #expect(iotlb.count == 8)
  }

  @Test(
    "a full set of the configuration cache replaces the least recently used entry, and a predicate selects the entries to invalidate"
  )
  func configurationCache() {
    var cache = ConfigurationCache<Int>(sets: 1)
    for key in 0..<4 as Range<UInt64> { cache.insert(key, Int(key)) }
    #expect(cache.find(0)?.pointee == 0)
    cache.insert(4, 4)
    #expect(cache.find(1) == nil)
    #expect(cache.find(0)?.pointee == 0)
    cache.invalidate { key, _ in key == 0 }
    #expect(cache.find(0) == nil)
    #expect(cache.find(4)?.pointee == 4)
  }
}
