// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite("amd: ATS and page requests of devices that the driver attaches")
struct AMDViDriverATSTests {
  private let ats = DMAAttributes(usesATS: true)
  private let one = DMAAttributes(pasid: PASID(rawValue: 1), usesATS: true)

  @Test("an attach enables the ATS and PRI of the function that its domain allows")
  func services() throws {
    let fixture = try AMDViDriverFixture(hasATS: true)
    let states = Collector<[Bool]>()
    fixture.driver.setServiceControl(of: AMDViDriverFixture.device) {
      states.add([$0.contains(.ats), $0.contains(.pageRequests)])
    }
    func last() -> [Bool] { states.drain().last ?? [] }
    #expect(fixture.driver.capabilities(of: AMDViDriverFixture.device).contains(.ats))
    try fixture.attach(fixture.parent)
    #expect(last() == [true, false])
    #expect(try fixture.entry().allowsDeviceTLB)
    let guest = try fixture.makeDomain(.pasid)
    try fixture.attach(guest)
    #expect(last() == [true, true])
    #expect(try fixture.entry().allowsPageRequests)
    fixture.driver.block(AMDViDriverFixture.device, pasid: nil)
    #expect(last() == [false, false])
    let table = fixture.guest.allocate()
    try fixture.attach(try fixture.makeNested(gcr3: table))
    #expect(last() == [false, false])
    try fixture.attach(
      try fixture.makeNested(gcr3: table) {
        $0.allowsDeviceTLB = true
        $0.allowsPageRequests = true
      })
    #expect(last() == [true, true])
    #expect(try fixture.entry().allowsDeviceTLB)
    let plain = try AMDViDriverFixture()
    try plain.attach(plain.parent)
    #expect(try !plain.entry().allowsDeviceTLB)
    #expect(!plain.driver.capabilities(of: AMDViDriverFixture.device).contains(.ats))
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.pageRequests = false
    #expect(
      !(try AMDViDriverFixture(configuration, hasATS: true)).driver
        .capabilities(of: AMDViDriverFixture.device).contains(.ats))
  }

  @Test("an attach does not cost more than the attach before")
  func repeatedAttaches() throws {
    let fixture = try AMDViDriverFixture(hasATS: true)
    let depth = StackDepth()
    fixture.driver.setServiceControl(of: AMDViDriverFixture.device) { _ in depth.record() }
    let costs = try growingCosts(of: 5_000, depth) {
      try fixture.attach(fixture.parent)
      fixture.driver.block(AMDViDriverFixture.device, pasid: nil)
    }
    #expect(costs.isEmpty)
  }

  @Test("unmap() invalidates the device TLB", arguments: [false, true])
  func unmapping(isGuest: Bool) throws {
    let fixture = try AMDViDriverFixture(hasATS: true)
    let domain = try fixture.makeDomain(isGuest ? .pasid : [])
    try fixture.attach(domain)
    let page = fixture.guest.physicalAddress(of: fixture.guest.data(0))
    // Two calls make two pages.
    for iova in [0x1_0000, 0x1_1000] as [UInt64] {
      try domain.map(IOVA(iova), to: page, length: 0x1000, permissions: [.read, .write])
    }
    #expect(fixture.port.load(0x1_0000, ats).0 == .completed)
    #expect(fixture.port.load(0x1_1000, ats).0 == .completed)
    domain.unmap(IOVA(0x1_1000), length: 0x1000)
    #expect(fixture.port.deviceTranslations == 1)
    #expect(fixture.port.load(0x1_1000, ats).0 == .denied(IOVA(0x1_1000)))
    #expect(fixture.port.load(0x1_0000, ats).0 == .completed)
    fixture.driver.block(AMDViDriverFixture.device, pasid: nil)
    #expect(fixture.port.deviceTranslations == 0)
    #expect(fixture.faults.drain().isEmpty)
  }

  @Test("a change of the nesting parent invalidates the device TLB of a nested device")
  func parents() throws {
    let fixture = try AMDViDriverFixture(hasATS: true)
    let guest = fixture.guest
    let (gcr3, root) = (guest.allocate(), guest.allocate())
    guest[gcr3 + 8] = root | 1
    guest.map(root, 0x7000, to: guest.data(0))
    try fixture.attach(try fixture.makeNested(gcr3: gcr3) { $0.allowsDeviceTLB = true })
    #expect(fixture.port.load(0x7000, one).0 == .completed)
    #expect(fixture.port.load(guest.data(1), ats).0 == .completed)
    guest.map(root, 0x7000, to: guest.data(2))
    #expect(fixture.port.load(0x7000, one).0 == .completed)
    #expect(fixture.port.deviceTranslations == 2)
    let spare = IOVA(0x9000_0000)
    try fixture.parent.map(
      spare, to: guest.physicalAddress(of: guest.data(0)), length: 0x1000, permissions: .read)
    fixture.parent.unmap(spare, length: 0x1000)
    #expect(fixture.port.deviceTranslations == 0)
  }

  @Test("page requests with a valid PASID go to the guest, and all others fail")
  func routes() throws {
    let fixture = try AMDViDriverFixture(pasidBits: 8, hasATS: true)
    let asked = Collector<PageRequest>()
    fixture.driver.setPageRequestSink { asked.add($0) }
    try fixture.attach(
      try fixture.makeNested(gcr3: fixture.guest.allocate()) {
        $0.allowsDeviceTLB = true
        $0.allowsPageRequests = true
      })
    func ask(_ pasid: UInt32?) -> PageRequestAnswer {
      fixture.port.requestPages(
        IOVA(0xa_0000_0000), count: 8, writes: false,
        DMAAttributes(pasid: pasid.map { PASID(rawValue: $0) }, usesATS: true))
    }
    #expect(fixture.driver.hasUserPASIDTable)
    #expect(ask(nil) == .answered(.failure))
    #expect(ask(0) == .answered(.failure))
    #expect(ask(256) == .answered(.failure))
    #expect(asked.drain().isEmpty)
    #expect(ask(255) == .awaited(group: 3))
    let request = try #require(asked.drain().first)
    let answers = Collector<UInt32>()
    fixture.port.setPageResponseReceiver { group, _ in answers.add(group) }
    fixture.driver.respond(to: request.groupID, .success)
    #expect(answers.drain() == [3])
    // Without PPR of the guest's entry the driver answers the request in place of the unit, and the
    // event is recorded.
    try fixture.attach(
      try fixture.makeNested(gcr3: fixture.guest.allocate()) { $0.allowsDeviceTLB = true })
    #expect(ask(1) == .answered(.failure))
    #expect(
      fixture.faults.drain().map { DMAOutcome.fault($0).amdviEvent?.kind } == [.invalidPageRequest])
    #expect(!(try AMDViDriverFixture(guestTableInterface: .kernel)).driver.hasUserPASIDTable)
  }
}
