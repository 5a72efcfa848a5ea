// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU

@Suite("AMD-Vi: ATS and page requests")
struct AMDViATSTests {
  private static let device = UInt64(AMDViFixture.device.rawValue)
  private let ats = DMAAttributes(usesATS: true)
  private let one = DMAAttributes(pasid: PASID(rawValue: 1), usesATS: true)

  private func forget(
    _ fixture: AMDViFixture, _ first: UInt64, _ last: UInt64, pasid: UInt32? = nil
  ) {
    fixture.run(
      .invalidateDeviceTLB(
        AMDViPageRange(covering: first, through: last), of: AMDViFixture.device,
        pasid: pasid.map { PASID(rawValue: $0) }))
  }

  private func translating(_ entry: DeviceTableEntry) -> DeviceTableEntry {
    var entry = entry
    entry.allowsDeviceTLB = true
    return entry
  }

  @Test("a function keeps its translations until INVALIDATE_IOTLB_PAGES")
  func staleness() throws {
    let fixture = try AMDViFixture()
    for page in 0..<4 as Range<UInt64> { fixture.guest[fixture.guest.data(page)] = page }
    let (gcr3, root) = fixture.makeGuest(1, in: fixture.guest)
    fixture.set(translating(fixture.guided(gcr3)))
    fixture.guest.map(root, 0x7000, to: fixture.guest.data(1))
    #expect(fixture.port.load(0x7000, one) == (.completed, 1))
    #expect(fixture.port.load(fixture.guest.data(0), ats) == (.completed, 0))
    fixture.guest.map(root, 0x7000, to: fixture.guest.data(2))
    fixture.run(.invalidateAll)
    forget(fixture, 0x8000, 0x8fff, pasid: 1)
    forget(fixture, 0x7000, 0x7fff, pasid: 2)
    #expect(fixture.port.load(0x7000, one).1 == 1)
    forget(fixture, 0x6000, 0x7fff, pasid: 1)
    #expect(fixture.port.load(0x7000, one).1 == 2)
    #expect(fixture.port.deviceTranslations == 2)
    // An invalidation without PASID covers all addresses of all PASIDs (PCIe 6 §10.3.8).
    fixture.guest.map(root, 0x7000, to: fixture.guest.data(3))
    fixture.run(.invalidateAll)
    forget(fixture, 0x1000, 0x1fff)
    #expect(fixture.port.deviceTranslations == 1)
    #expect(fixture.port.load(0x7000, one).1 == 3)
  }

  @Test("with GIoV an invalidation of PASID 0 covers requests without PASID")
  func withoutPASID() throws {
    let fixture = try AMDViFixture()
    let (gcr3, root) = fixture.makeGuest(0, in: fixture.physical)
    var entry = translating(fixture.guided(gcr3, nested: false))
    entry.usesGuestTableWithoutPASID = true
    fixture.set(entry)
    fixture.physical.map(root, 0x7000, to: fixture.physical.data(1))
    #expect(fixture.port.load(0x7000, ats).0 == .completed)
    forget(fixture, 0x8000, 0x8fff, pasid: 0)
    #expect(fixture.port.deviceTranslations == 1)
    forget(fixture, 0x7000, 0x7fff, pasid: 0)
    #expect(fixture.port.deviceTranslations == 0)
    fixture.set(translating(fixture.hosted))
    #expect(fixture.port.load(AMDViTables.hostBase, ats).0 == .completed)
    forget(fixture, 0, .max, pasid: 0)
    #expect(fixture.port.deviceTranslations == 1)
  }

  @Test(
    "a translation request to an absent, forbidden or malformed page is denied, and one to an absent table is an event"
  )
  func denials() throws {
    let fixture = try AMDViFixture()
    let (gcr3, root) = fixture.makeGuest(1, in: fixture.guest)
    fixture.set(translating(fixture.guided(gcr3)))
    fixture.guest.map(root, 0x7000, to: fixture.guest.data(1), 5)
    #expect(fixture.port.load(0x7000, one).0 == .completed)
    #expect(fixture.port.store(1, to: 0x7000, one) == .denied(IOVA(0x7000)))
    #expect(fixture.port.load(0x8000, one).0 == .denied(IOVA(0x8000)))
    #expect(fixture.port.load(0xfee0_0000, ats).0 == .denied(IOVA(0xfee0_0000)))
    #expect(fixture.port.load(0x9_0000_0000, ats).0 == .denied(IOVA(0x9_0000_0000)))
    #expect(fixture.unit.consumeEvents().isEmpty)
    fixture.guest[fixture.guest.entry(root, 1 << 40, level: 3)] = fixture.guest.data(0) | 0x87
    #expect(fixture.port.load(1 << 40, one).0 == .denied(IOVA(1 << 40)))
    #expect(fixture.unit.consumeEvents().isEmpty)
    let nowhere = UInt64(1) << UInt64(fixture.memory.addressBits) - 4096
    let (other, table) = fixture.makeGuest(1, in: fixture.physical)
    fixture.physical[fixture.physical.entry(table, 1 << 40, level: 3)] = nowhere | 7
    fixture.set(translating(fixture.guided(other, nested: false)))
    #expect(fixture.port.load(1 << 40, one).0.amdviEvent?.kind == .pageTableError)
    // GN, TR and a master abort.
    let event = try fixture.consumeEvent()
    #expect(event[0] >> 48 == 4 << 12 | 1 << 9 | 1 << 8 | 1)
    #expect(event[1] == nowhere)
  }

  @Test("without I translation requests and translated requests are INVALID_DEVICE_REQUEST events")
  func entries() throws {
    let fixture = try AMDViFixture()
    fixture.set(fixture.hosted)
    #expect(fixture.port.load(AMDViTables.hostBase, ats).0.amdviEvent?.kind == .invalidRequest)
    #expect(try fixture.consumeEvent() == [8 << 60 | 1 << 56 | Self.device, AMDViTables.hostBase])
    let request = DMARequest(
      requester: AMDViFixture.device, ats, iova: IOVA(0x1000), count: 8, writes: false)
    let record = try #require(fixture.unit.checkTranslated(request, at: IOVA(0x1000)))
    fixture.unit.report(record)
    #expect(try fixture.consumeEvent() == [8 << 60 | 1 << 57 | Self.device, 0x1000])
    fixture.set(translating(fixture.hosted))
    #expect(fixture.unit.checkTranslated(request, at: IOVA(0x1000)) == nil)
    #expect(fixture.port.load(AMDViTables.hostBase, ats).0 == .completed)
    // The function has the translation, but the entry no longer allows translated requests.
    fixture.set(fixture.hosted)
    #expect(fixture.port.load(AMDViTables.hostBase, ats).0.amdviEvent?.type == 1)
    #expect(try fixture.consumeEvent() == [8 << 60 | 1 << 57 | Self.device, AMDViTables.hostBase])
    fixture.set(DeviceTableEntry())
    fixture.port.resetDeviceTLB()
    #expect(fixture.port.load(AMDViTables.hostBase, ats).0.amdviEvent?.type == 8)
    var beyond = fixture.hosted
    beyond.hostLevels = 7
    fixture.set(beyond)
    #expect(
      fixture.port.load(AMDViTables.hostBase, ats).0.amdviEvent?.kind == .illegalDeviceTableEntry)
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.deviceTLBs = false
    let plain = try AMDViFixture(configuration)
    #expect(throws: AMDViUnit.IllegalCommand(index: 0)) {
      try plain.unit.execute([
        .invalidateDeviceTLB(.everything, of: AMDViFixture.device, pasid: nil)
      ])
    }
  }

  @Test("page requests require PPR of the entry and are answered by tag")
  func pageRequests() throws {
    let fixture = try AMDViFixture()
    let (gcr3, _) = fixture.makeGuest(1, in: fixture.guest)
    var entry = translating(fixture.guided(gcr3))
    fixture.set(entry)
    let asked = Collector<PageRequest>()
    #expect(
      fixture.port.requestPages(IOVA(0x5000), count: 8, writes: true, one) == .answered(.failure),
      "nobody listens")
    fixture.unit.setPageRequestSink { asked.add($0) }
    #expect(
      fixture.port.requestPages(IOVA(0x5008), count: 8, writes: true, one) == .awaited(group: 1))
    #expect(asked.drain().isEmpty)
    // DeviceID, PASID, tag with LAST, GN.
    let expected: [UInt64] = [9 << 60 | 1 << 57 | 0x201 << 32 | 1 << 16 | Self.device, 0x5000]
    #expect(try fixture.consumeEvent() == expected)
    entry.allowsPageRequests = true
    fixture.set(entry)
    #expect(
      fixture.port.requestPages(IOVA(0x5ff8), count: 16, writes: true, one) == .awaited(group: 2))
    #expect(asked.drain().map(\.address.rawValue) == [0x5000, 0x6000])
    let answers = Collector<UInt32>()
    fixture.port.setPageResponseReceiver { group, response in
      answers.add(group << 8 | UInt32(response.code))
    }
    for (group, response) in [
      (1, .invalid), (3, .success), (2, .failure),
    ] as [(UInt32, PageResponse)] {
      fixture.run(
        .completePageRequest(
          of: AMDViFixture.device, pasid: PASID(rawValue: 1), group: group, response))
    }
    #expect(answers.drain() == [0x101, 0x20f])
    #expect(PageResponse(code: 2) == .failure)
  }
}
