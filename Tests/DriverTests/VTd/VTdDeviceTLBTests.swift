// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

/// ATS and page requests of a VT-d unit.
@Suite struct VTdDeviceTLBTests {
  private let guest: VTdGuestFixture
  private let root: UInt64
  private let port: DMAPort
  private let ats = DMAAttributes(usesATS: true)

  init() throws {
    guest = try VTdGuestFixture()
    root = guest.makeTable()
    for page in 0..<16 as Range<UInt64> { guest.map(page << 12, to: page << 12, in: root) }
    var services = DeviceProperties()
    services.pasidBits = 20
    services.hasATS = true
    services.hasPageRequests = true
    try guest.fixture.driver.probe(.test(0), services)
    port = guest.fixture.port(0)
    try guest.attach(try guest.nested(root))
  }

  @Test("a function keeps its translations until the device TLB is invalidated")
  func functionsKeepTranslations() throws {
    #expect(port.load(0x1000, ats) == (.completed, 2))
    #expect(port.deviceTranslations == 1)
    guest.map(0x1000, to: 0x5000, in: root)
    guest.fixture.unit.invalidateIOTLB(.global)
    #expect(port.load(0x1000, ats).1 == 2, "the device TLB has the translation")
    #expect(port.load(0x1000).1 == 6, "an untranslated request uses the unit")
    guest.fixture.unit.invalidateDeviceTLB(of: .test(1))
    #expect(port.load(0x1000, ats).1 == 2, "the invalidation was for another function")
    guest.fixture.unit.invalidateDeviceTLB(of: .test(0), pasid: PASID(rawValue: 0))
    #expect(port.load(0x1000, ats).1 == 2, "the invalidation was for a PASID")
    guest.fixture.unit.invalidateDeviceTLB(of: .test(0), .pages(IOVA(0x2000), shift: 13))
    #expect(port.load(0x1000, ats).1 == 2, "the invalidation was for other pages")
    guest.fixture.unit.invalidateDeviceTLB(of: .test(0), .pages(IOVA(0), shift: 13))
    #expect(port.load(0x1000, ats).1 == 6)
    port.resetDeviceTLB()
    #expect(port.deviceTranslations == 0)
  }

  /// PCIe 6 §10.3.8: the invalidation names no address of a PASID.
  @Test("a device TLB invalidation without PASID covers every address of all PASIDs")
  func invalidationWithoutPASID() throws {
    let one = DMAAttributes(pasid: PASID(rawValue: 1), usesATS: true)
    try guest.attach(try guest.nested(root), pasid: 1)
    func fill() {
      #expect(port.load(0x1000, ats) == (.completed, 2))
      #expect(port.load(0x1000, one) == (.completed, 2))
      #expect(port.load(0x2000, one) == (.completed, 3))
      #expect(port.deviceTranslations == 3)
    }
    let unit = guest.fixture.unit
    fill()
    unit.invalidateDeviceTLB(of: .test(0), .pages(IOVA(0x2000), shift: 12), pasid: one.pasid)
    #expect(port.deviceTranslations == 2)
    fill()
    unit.invalidateDeviceTLB(of: .test(0), .pages(IOVA(0x2000), shift: 12))
    #expect(port.deviceTranslations == 1)
    #expect(port.load(0x1000, ats) == (.completed, 2))
    fill()
    unit.invalidateDeviceTLB(of: .test(0))
    #expect(port.deviceTranslations == 0)
  }

  @Test("a function without a device TLB sends a translation request for each access")
  func aFunctionWithoutCacheAsksEachTime() throws {
    var geometry = DeviceTLBGeometry()
    geometry.sets = 0
    let port = DMAPort(requester: .test(0), vtd: guest.fixture.unit, deviceTLB: geometry)
    #expect(port.load(0x1000, ats) == (.completed, 2))
    #expect(port.deviceTranslations == 0)
  }

  @Test("a translation request without permission is denied and records no fault")
  func deniedRequests() throws {
    guest.map(0x1000, to: 0x1000, in: root, flags: 5)
    #expect(port.load(0x1000, ats) == (.completed, 2))
    #expect(port.store(1, to: 0x1008, ats) == .denied(IOVA(0x1008)))
    guest.map(0x2000, to: 0x2000, in: root, flags: 3)
    #expect(port.load(0x2000, ats).0 == .denied(IOVA(0x2000)), "the page is privileged")
    #expect(port.load(0x20_0ff8, ats).0 == .denied(IOVA(0x20_0ff8)))
    #expect(port.load(0xfee0_0000, ats).0 == .denied(IOVA(0xfee0_0000)))
    #expect(port.load(1 << 47, ats).0 == .denied(IOVA(1 << 47)))
    #expect(guest.fixture.faults.drain().isEmpty)
    guest.map(0x1000, to: 0x1000, in: root)
    #expect(port.store(1, to: 0x1008, ats) == .completed, "the write permission is requested")
  }

  @Test("an error in the tables of a translation request is recorded as a fault")
  func errorsOfTranslationRequestsAreRecorded() throws {
    guest[guest.entryAddress(0x1000, in: root)] = 1 << 40 | 7
    guest[guest.entryAddress(5 << 39, in: root, level: 3)] = 0x87
    guard case .fault(let record) = port.load(5 << 39, ats).0 else {
      Issue.record("no fault")
      return
    }
    #expect(record.reason == .vtd(.firstStageReserved))
    let upper = VTdFaultRecordingRegister(record).upper
    #expect(upper >> 60 == 0b1101, "F, a read, of a translation request")
    #expect(guest.fixture.faults.drain() == [record])
  }

  @Test("the context entry allows translation requests, translated requests and page requests")
  func contextEntryPermissions() throws {
    try guest.attach(try guest.nested(root), 1)
    let plain = guest.fixture.port(1)
    #expect(plain.load(0x1000) == (.completed, 2))
    #expect(plain.load(0x1000, ats).0.reason == .deviceTLBDisabled)
    // The device has the translation, but the context entry no longer allows translated requests.
    let stranger = DMARequest(
      requester: .test(1), ats, iova: IOVA(0x1000), count: 8, writes: false)
    let refusal = guest.fixture.unit.checkTranslated(stranger, at: IOVA(0x1000))
    #expect(refusal?.reason == .vtd(.deviceTLBDisabled))
    #expect(refusal.map { VTdFaultRecordingRegister($0).upper >> 60 & 3 } == 2)
    guest.fixture.driver.setPageRequestSink { _ in Issue.record("not allowed") }
    #expect(
      plain.requestPages(IOVA(1 << 40), count: 8, writes: false, ats) == .answered(.success),
      "no request was denied")
    guest.fixture.unit.receive(
      PageRequest(
        requester: .test(1), pasid: nil, group: 0, address: IOVA(0), access: .read, isLast: true))
    #expect(guest.fixture.faults.drain().last?.reason == .vtd(.pageRequestsDisabled))
  }

  @Test("a function has at most 32 outstanding page request groups")
  func groupLimit() throws {
    let asked = Collector<PageRequest>()
    guest.fixture.driver.setPageRequestSink { asked.add($0) }
    for group in 0..<32 as Range<UInt32> {
      #expect(
        port.requestPages(IOVA(1 << 40), count: 1, writes: true, ats) == .awaited(group: group))
    }
    #expect(port.requestPages(IOVA(1 << 40), count: 1, writes: true, ats) == .unavailable)
    let answers = Collector<UInt32>()
    port.setPageResponseReceiver { group, _ in answers.add(group) }
    let requests = asked.drain()
    #expect(requests.count == 32)
    #expect(requests.allSatisfy { $0.access == .write && $0.isLast && $0.address == IOVA(1 << 40) })
    guest.fixture.driver.respond(to: requests[3].groupID, .success)
    guest.fixture.driver.respond(to: requests[3].groupID, .success)
    let other = PageRequestGroupID(
      requester: .test(0), pasid: PASID(rawValue: 1), group: requests[4].group)
    guest.fixture.driver.respond(to: other, .success)
    #expect(answers.drain() == [3], "one answer, of the right PASID")
    #expect(
      port.requestPages(IOVA(1 << 40), count: 1, writes: true, ats) == .awaited(group: 32),
      "a free number is not reused at once")
    port.resetDeviceTLB()
    guest.fixture.driver.respond(to: requests[4].groupID, .success)
    #expect(answers.drain().isEmpty, "a reset removes the groups")
  }

  @Test("a page request can be answered while it is sent")
  func immediateAnswer() throws {
    let driver = guest.fixture.driver
    driver.setPageRequestSink { [weak driver] request in
      if request.isLast { driver?.respond(to: request.groupID, .failure) }
    }
    #expect(
      port.requestPages(IOVA(0x20_0000 - 8), count: 4104, writes: false, ats)
        == .answered(.failure))
    driver.setPageRequestSink(nil)
    #expect(
      port.requestPages(IOVA(1 << 40), count: 1, writes: false, ats) == .answered(.invalid))
  }

  @Test("a page request that cannot be satisfied is answered as invalid")
  func invalidPageRequests() throws {
    let asked = Collector<PageRequest>()
    guest.fixture.driver.setPageRequestSink { asked.add($0) }
    var attributes = ats
    attributes.pasid = PASID(rawValue: 5)
    try guest.attach(try guest.nested(root, flags: 1), pasid: 5)
    attributes.isPrivileged = true
    #expect(
      port.requestPages(IOVA(1 << 40), count: 1, writes: false, attributes)
        == .answered(.invalid))
    attributes.isPrivileged = false
    #expect(
      port.requestPages(IOVA(1 << 47), count: 1, writes: false, attributes)
        == .answered(.invalid))
    #expect(asked.drain().isEmpty)
  }
}
