// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import IOMMU

@Suite("SMMUv3: scopes of TLB invalidations")
struct SMMUv3ScopeTests {
  private func entry(
    _ tag: IOTLBTag, at address: UInt64, blockShift: Int = 12, granule: Int = 12,
    isGlobal: Bool = false
  ) -> CachedTranslation {
    CachedTranslation(
      tag: tag, iova: IOVA(address), permissions: .read,
      attributes: SMMUv3LeafAttributes(
        blockShift: blockShift, granuleShift: granule, isGlobal: isGlobal, isReadOnly: false
      ).attributes)
  }

  private func page(_ address: UInt64) -> InvalidatedRange {
    InvalidatedRange(first: address, last: address | 0xfff)
  }

  @Test("a TLB invalidation covers entries by VMID, ASID and stage")
  func tags() {
    let first = entry(IOTLBTag(vmid: 1, asid: 10), at: 0x5000)
    let second = entry(IOTLBTag(vmid: 1, asid: 11), at: 0x5000)
    let other = entry(IOTLBTag(vmid: 2, asid: 10), at: 0x5000)
    let stage2 = entry(IOTLBTag(vmid: 1), at: 0x5000)
    let global = entry(IOTLBTag(vmid: 1, asid: 10), at: 0x5000, isGlobal: true)
    func covered(_ scope: SMMUv3InvalidationScope) -> [Bool] {
      [first, second, other, stage2, global].map { scope.covers($0) }
    }
    #expect(covered(.everything) == [true, true, true, true, true])
    #expect(covered(.machine(vmid: 1)) == [true, true, false, true, true])
    #expect(covered(.stage1(vmid: 1)) == [true, true, false, false, true])
    #expect(covered(.space(vmid: 1, asid: 10)) == [true, false, false, false, false])
    #expect(
      covered(.addresses(page(0x5000), vmid: 1, asid: 10)) == [true, false, false, false, true])
    // A global entry is covered by an address invalidation of any ASID.
    #expect(
      covered(.addresses(page(0x5000), vmid: 1, asid: 11)) == [false, true, false, false, true])
    #expect(
      covered(.addressesOfAll(page(0x5000), vmid: 1)) == [true, true, false, false, true])
    #expect(
      covered(.addressesOfAll(page(0x6000), vmid: 1)) == [false, false, false, false, false])
    #expect(covered(.intermediate(page(0x5000), vmid: 1)) == [false, false, false, true, false])
  }

  @Test("one address of a block invalidates every piece of it")
  func blocks() {
    let tag = IOTLBTag(vmid: 1, asid: 1)
    let piece = entry(tag, at: 0x4020_0000, blockShift: 29, granule: 16)
    #expect(SMMUv3InvalidationScope.addressesOfAll(page(0x5fff_f000), vmid: 1).covers(piece))
    #expect(!SMMUv3InvalidationScope.addressesOfAll(page(0x6000_0000), vmid: 1).covers(piece))
    #expect(!SMMUv3InvalidationScope.addressesOfAll(page(0x3fff_f000), vmid: 1).covers(piece))
  }

  @Test(
    "an address invalidation covers the range of its granule and level hints",
    arguments: [
      (12, 12, 3), (12, 16, 3), (12, 21, 2), (12, 25, 2), (12, 30, 1), (14, 14, 3),
      (14, 21, 3), (14, 25, 2), (14, 30, 2), (16, 16, 3), (16, 21, 3), (16, 29, 2), (16, 34, 2),
    ])
  func hints(_ granule: Int, _ block: Int, _ level: Int) {
    let entry = entry(IOTLBTag(vmid: 1, asid: 1), at: 0, blockShift: block, granule: granule)
    #expect(SMMUv3LeafAttributes(entry.attributes).level == level)
    for hint in 0...3 {
      for other in [nil, 12, 14, 16] {
        let range = InvalidatedRange(
          first: 0, last: 0xfff, granuleShift: other, level: other == nil ? 0 : hint)
        let isMeant = other == nil || other == granule && (hint == 0 || hint == level)
        #expect(range.intersects(entry) == isMeant)
      }
    }
  }
}
