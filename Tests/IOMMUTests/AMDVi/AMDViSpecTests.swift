// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import IOMMU

@Suite("AMD-Vi: bits of the structures")
struct AMDViSpecTests {
  @Test("each field of a device table entry has the bits of the specification")
  func deviceTableEntry() {
    var entry = DeviceTableEntry()
    func expect(
      _ words: [UInt64], _ name: Comment, _ change: (inout DeviceTableEntry) -> Void
    ) {
      entry = DeviceTableEntry()
      change(&entry)
      #expect((0..<4).map { entry.words[$0] } == words, name)
    }
    expect([1, 0, 0, 0], "V") { $0.isValid = true }
    expect([2, 0, 0, 0], "TV") { $0.isTranslationValid = true }
    expect([0x180, 0, 0, 0], "HAD") { $0.hostFlags = 3 }
    expect([0xc00, 0, 0, 0], "Mode") { $0.hostLevels = 6 }
    expect([0x000a_bcde_f012_3000, 0, 0, 0], "host table") {
      $0.hostTable = PhysicalAddress(0x000a_bcde_f012_3000)
    }
    expect([1 << 52, 0, 0, 0], "PPR") { $0.allowsPageRequests = true }
    expect([1 << 54, 0, 0, 0], "GIoV") { $0.usesGuestTableWithoutPASID = true }
    expect([1 << 55, 0, 0, 0], "GV") { $0.isGuestValid = true }
    expect([2 << 56, 0, 0, 0], "GLX") { $0.guestCR3Levels = 2 }
    expect([7 << 58, 0xffff << 16 | 0x1f_ffff << 43, 0, 0], "GCR3 table") {
      $0.guestCR3Table = 0x000f_ffff_ffff_f000
    }
    #expect(entry.guestCR3Table == 0x000f_ffff_ffff_f000)
    expect([2 << 58, 3 << 16 | 1 << 43, 0, 0], "GCR3 table's parts") {
      $0.guestCR3Table = 0x8001_a000
    }
    expect([1 << 61, 0, 0, 0], "IR") { $0.allowsReading = true }
    expect([1 << 62, 0, 0, 0], "IW") { $0.allowsWriting = true }
    expect([0, 0xabcd, 0, 0], "DomainID") { $0.domain = DomainID(rawValue: 0xabcd) }
    expect([0, 1 << 32, 0, 0], "I") { $0.allowsDeviceTLB = true }
    expect([0, 1 << 33, 0, 0], "SE") { $0.suppressesRepeatedFaults = true }
    expect([0, 1 << 34, 0, 0], "SA") { $0.suppressesFaults = true }
    expect([0, 0, 1 << 54, 0], "GuestPagingMode") { $0.guestPagingMode = 1 }
  }

  @Test("the feature registers report the capabilities")
  func features() {
    let all = AMDViCapabilities()
    // PPR, NX, GT, IA, HATS 2, GLX 1, PASmax 15, US, GIo, HA, EPH, HD
    #expect(all.features == 0x0017_002f_0000_485a)
    #expect(all.features2 == 1 << 3)
    var few = all
    few.guestTranslation = false
    few.hostFlags = false
    few.pageRequests = false
    few.noExecute = false
    few.invalidateAll = false
    few.hostLevels = 4
    few.nestedGuestCR3 = false
    few.ignoresHyperTransportRange = true
    #expect(few.features == 0)
    #expect(few.features2 == 1 << 11)
    var five = all
    five.guestLevels = 5
    five.guestCR3Levels = 2
    #expect(five.features ^ all.features == 1 << 12 | 3 << 14)
  }

  @Test("each level of a GCR3 table is indexed by 9 bits of the PASID")
  func guestCR3() {
    let pasid = PASID(rawValue: 0xabcde)
    #expect(GuestCR3Entry.offset(of: pasid, level: 0) == 0xde * 8)
    #expect(GuestCR3Entry.offset(of: pasid, level: 1) == 0x15e * 8)
    #expect(GuestCR3Entry.offset(of: pasid, level: 2) == 2 * 8)
    #expect(GuestCR3Entry.make(PhysicalAddress(0x1234_5000)) == 0x1234_5001)
    #expect(!GuestCR3Entry.hasReservedBits(0x000f_ffff_ffff_f019, level: 0))
    for bit in [1, 2, 5, 11, 52, 63] {
      #expect(GuestCR3Entry.hasReservedBits(1 << UInt64(bit), level: 0))
    }
    #expect(GuestCR3Entry.hasReservedBits(1 << 3, level: 1))
  }

  @Test("commands have the bits of the specification")
  func commands() {
    func words(_ command: AMDViCommand) -> [UInt64] { [command.words[0], command.words[1]] }
    #expect(
      words(.completionWait(storing: 0x1122, at: PhysicalAddress(0xabc_def8)))
        == [0x1000_0000_0abc_def9, 0x1122])
    #expect(
      words(.invalidateDeviceTableEntry(RequesterID(rawValue: 0x0108)))
        == [0x2000_0000_0000_0108, 0])
    let page = AMDViPageRange(covering: 0x5000, through: 0x5fff)
    let domain = DomainID(rawValue: 0xbeef)
    #expect(
      words(.invalidatePages(page, of: domain, pasid: nil, directories: false))
        == [0x3000_beef_0000_0000, 0x5000])
    #expect(
      words(
        .invalidatePages(
          page, of: domain, pasid: PASID(rawValue: 0xabcde), directories: true))
        == [0x3000_beef_000a_bcde, 0x5006])
    #expect(
      words(
        .invalidateDeviceTLB(
          page, of: RequesterID(rawValue: 0x0108), pasid: PASID(rawValue: 0x1234)))
        == [0x4034_0108_0012_0108, 0x5004])
    #expect(words(.invalidateAll) == [0x8000_0000_0000_0000, 0])
  }

  @Test(
    "the range of an invalidation has the encoding of the page size table",
    arguments: [
      (0x1000, 0x1fff, 0x1000), (0x0, 0x1fff, 0x1), (0x8000, 0xbfff, 0x9001),
      (0x20_0000, 0x3f_ffff, 0x2f_f001), (0x0, 0xffff_ffff, 0x7fff_f001),
      (0x7ff0, 0x8010, 0x7001), (0x0, 0x000f_ffff_ffff_ffff, 0x0007_ffff_ffff_f001),
      (0x0, 0xffff_ffff_ffff_ffff, 0x7fff_ffff_ffff_f001),
      (0x000f_0000_0000_0000, 0x0010_0000_0000_0000, 0x7fff_ffff_ffff_f001),
    ] as [(UInt64, UInt64, UInt64)])
  func ranges(first: UInt64, last: UInt64, encoded: UInt64) {
    let range = AMDViPageRange(covering: first, through: last)
    #expect(range.encoded == encoded)
    #expect(AMDViPageRange(encoded: encoded) == range)
    #expect(range.intersects(first & ~0xfff, shift: 12))
    #expect(range.intersects(last & ~0xfff, shift: 12))
    if range.shift < 64 {
      let end = range.start + 1 << UInt64(range.shift)
      #expect(!range.intersects(end, shift: 12))
      #expect(range.intersects(0, shift: 63))
    }
  }

  @Test("event log entries have the bits of the specification")
  func events() {
    func entry(
      _ event: AMDViEvent, _ access: Permissions, pasid: UInt32? = nil
    ) -> [UInt64] {
      let record = FaultRecord(
        requester: RequesterID(rawValue: 0x0108), pasid: pasid.map { PASID(rawValue: $0) },
        iova: IOVA(0x1234), access: access, reason: .amdvi(event), isSuppressed: false)
      let words = AMDViEventEntry(record, event).words
      return [words[0], words[1]]
    }
    let domain = AMDViEvent.AddressSpace.domain(DomainID(rawValue: 0xd0d0))
    let space = AMDViEvent.AddressSpace.pasid(PASID(rawValue: 0xabcde))
    #expect(entry(.absent(domain, at: 0x1234), .read) == [0x2000_d0d0_0000_0108, 0x1234])
    #expect(entry(.absent(domain, at: 0x1234), .write) == [0x2020_d0d0_0000_0108, 0x1234])
    #expect(entry(.denied(domain, at: 0x1234), .write) == [0x2070_d0d0_0000_0108, 0x1234])
    #expect(entry(.reserved(domain, at: 0x1234), .read) == [0x2090_d0d0_0000_0108, 0x1234])
    #expect(
      entry(.denied(space, at: 0x1234), .write, pasid: 0xabcde)
        == [0x2075_bcde_000a_0108, 0x1234])
    #expect(
      entry(.absent(space, at: 0x1234), .privilegedExecute, pasid: 0xabcde)
        == [0x2003_bcde_000a_0108, 0x1234])
    #expect(
      entry(.illegalEntry(at: 0x1237, isReserved: true), .write)
        == [0x10a0_0000_0000_0108, 0x1234])
    #expect(
      entry(.illegalEntry(at: 0x1234, isReserved: false), .read, pasid: 0xabcde)
        == [0x1001_bcde_000a_0108, 0x1234])
    #expect(
      entry(.deviceTableError(at: PhysicalAddress(0x5678)), .write)
        == [0x3220_0000_0000_0108, 0x5670])
    #expect(
      entry(.pageTableError(domain, at: PhysicalAddress(0x5678)), .read)
        == [0x4200_d0d0_0000_0108, 0x5670])
    #expect(
      entry(.invalidRequest(.reservedInterrupt, at: 0xfd_0000_0000), .write)
        == [0x8c00_0000_0000_0108, 0xfd_0000_0000])
    #expect(
      entry(.invalidRequest(.translationRequest, at: 0x1234), .read, pasid: 5)
        == [0x8101_0005_0000_0108, 0x1234])
  }
}
