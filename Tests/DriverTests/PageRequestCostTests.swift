// SPDX-License-Identifier: Apache-2.0

import IOMMU
import SystemPackage
import TestSupport
import Testing

@testable import IOMMUFD

/// A device that works on memory that a guest pages on demand sends page requests without end.
@Suite("the cost of a page request does not depend on how many were answered before", .serialized)
struct PageRequestCostTests {
  private let ats = DMAAttributes(usesATS: true)
  private let depth = StackDepth()

  /// Answers every page request of `driver` at once.
  private func answer(_ driver: any IOMMUDriver, _ answer: PageResponse = .success) {
    let depth = depth
    driver.setPageRequestSink { [weak driver] request in
      depth.record()
      if request.isLast { driver?.respond(to: request.groupID, answer) }
    }
  }

  @Test("VT-d") func vtd() throws {
    let guest = try VTdGuestFixture()
    var services = DeviceProperties(pasidBits: 20)
    services.hasATS = true
    services.hasPageRequests = true
    try guest.fixture.driver.probe(.test(0), services)
    let port = guest.fixture.port(0)
    try guest.attach(try guest.nested(guest.makeTable()))
    answer(guest.fixture.driver)
    let costs = try growingCosts(of: 200_000, depth) {
      try #require(
        port.requestPages(IOVA(1 << 40), count: 1, writes: true, ats) == .answered(.success))
    }
    #expect(costs.isEmpty)
  }

  @Test("AMD-Vi") func amdvi() throws {
    let fixture = try AMDViDriverFixture(pasidBits: 8, hasATS: true)
    try fixture.attach(
      try fixture.makeNested(gcr3: fixture.guest.allocate()) {
        $0.allowsDeviceTLB = true
        $0.allowsPageRequests = true
      })
    answer(fixture.driver)
    let attributes = DMAAttributes(pasid: PASID(rawValue: 1), usesATS: true)
    let costs = try growingCosts(of: 200_000, depth) {
      try #require(
        fixture.port.requestPages(IOVA(0xa_0000_0000), count: 8, writes: false, attributes)
          == .answered(.success))
    }
    #expect(costs.isEmpty)
  }

  @Test("SMMUv3") func smmuv3() throws {
    let fixture = try SMMUv3Fixture(canStall: true)
    fixture.addVirtualDevice()
    let (root, descriptors) = (fixture.guest.allocate(), fixture.guest.allocate())
    var descriptor = ContextDescriptor.test(root, asid: 1)
    descriptor.stallsFaults = true
    fixture.guest.store(descriptor, at: descriptors)
    try fixture.attach(try fixture.makeNested(1 | 5 << 1 | descriptors | 6 << 59, 2))
    answer(fixture.driver, .failure)
    let costs = try growingCosts(of: 200_000, depth) {
      try #require(fixture.port.load(0x7654_3210_0000).0.event?.kind == .translation)
    }
    #expect(costs.isEmpty)
  }
}
