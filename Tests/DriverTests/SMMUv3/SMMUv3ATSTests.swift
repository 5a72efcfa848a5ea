// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite("SMMUv3: ATS")
struct SMMUv3ATSTests {
  private let fixture: SMMUv3Fixture
  private let guest: SMMUv3GuestMemory
  private let root: UInt64
  private let page: UInt64
  private let descriptors: UInt64
  private static let here: UInt64 = 0x7654_3210_0000
  private static let stream = StreamID(rawValue: UInt32(SMMUv3Fixture.virtualStream))
  /// EATS in the second word of a guest's stream table entry.
  private static let enabled: UInt64 = 1 << 28 | 2

  init() throws {
    var configuration = SMMUv3Unit.Configuration()
    configuration.capabilities.ats = true
    fixture = try SMMUv3Fixture(configuration, hasATS: true)
    guest = fixture.guest
    fixture.addVirtualDevice()
    (root, page, descriptors) = guest.makeSpace(at: Self.here)
    guest.store(.test(root, asid: 5), at: descriptors + 5 * 64)
    guest[page] = 0x1111
  }

  private func load(_ address: UInt64 = here, pasid: UInt32? = nil) -> DMAOutcome {
    let pasid = pasid.map { PASID(rawValue: $0) }
    return fixture.port.load(address, DMAAttributes(pasid: pasid, usesATS: true)).0
  }

  private func store(_ address: UInt64 = here) -> DMAOutcome {
    fixture.port.store(0x2222, to: address, DMAAttributes(usesATS: true))
  }

  private func forget(_ address: UInt64, shift: Int = 12, pasid: UInt32? = nil) {
    fixture.send([
      .invalidateATC(
        Self.stream, pasid: pasid.map { PASID(rawValue: $0) }, address: IOVA(address),
        sizeShift: shift)
    ])
  }

  @Test("a function keeps its translations until CMD_ATC_INV")
  func staleness() throws {
    try fixture.attach(try fixture.makeStage1(descriptors, plain: Self.enabled))
    #expect(load() == .completed)
    guest.unmap(root, Self.here)
    fixture.send([.tlbi(.tlbiASID, asid: 1)])
    #expect(load() == .completed)
    forget(Self.here + 0x1000)
    forget(Self.here, pasid: 5)
    #expect(load() == .completed)
    forget(Self.here)
    #expect(load() == .denied(IOVA(Self.here)))
    // The answer that a page is absent is not cached.
    guest.map(root, Self.here, to: page)
    #expect(load() == .completed)
  }

  @Test("CMD_ATC_INV before the invalidation of the TLB refills the ATC with the old translation")
  func order() throws {
    try fixture.attach(try fixture.makeStage1(descriptors, plain: Self.enabled))
    #expect(load() == .completed)
    guest.unmap(root, Self.here)
    forget(Self.here)
    #expect(load() == .completed)
    fixture.send([.tlbi(.tlbiASID, asid: 1)])
    forget(Self.here)
    #expect(load() == .denied(IOVA(Self.here)))
  }

  @Test("CMD_ATC_INV invalidates its size and PASID", arguments: [12, 13, 21, 39, 64])
  func scopes(shift: Int) throws {
    try fixture.attach(try fixture.makeStage1(descriptors, plain: Self.enabled))
    let offsets: [UInt64] = [0, 0x1000, 0x2000, 0x20_0000, 0x80_0000_0000]
    for offset in offsets { guest.map(root, Self.here + offset, to: page) }
    for offset in offsets {
      #expect(load(Self.here + offset) == .completed)
      #expect(load(Self.here + offset, pasid: 5) == .completed)
    }
    for offset in offsets { guest.unmap(root, Self.here + offset) }
    fixture.send([.tlbi(.tlbiASID, asid: 1), .tlbi(.tlbiASID, asid: 5)])
    forget(Self.here, shift: shift, pasid: 5)
    for offset in offsets {
      let isGone = shift == 64 || (Self.here ^ (Self.here + offset)) >> UInt64(shift) == 0
      let address = Self.here + offset
      #expect(load(address) == .completed)
      #expect(load(address, pasid: 5) == (isGone ? .denied(IOVA(address)) : .completed))
    }
    // An invalidation without PASID also covers the translations of all PASIDs.
    forget(Self.here, shift: 64)
    for offset in offsets {
      #expect(load(Self.here + offset) == .denied(IOVA(Self.here + offset)))
      #expect(load(Self.here + offset, pasid: 5) == .denied(IOVA(Self.here + offset)))
    }
  }

  @Test("a write to a page that is cached read-only is requested again and denied")
  func permissions() throws {
    try fixture.attach(try fixture.makeStage1(descriptors, plain: Self.enabled))
    guest.map(root, Self.here, to: page, SMMUv3GuestMemory.leaf | SMMUv3GuestMemory.readOnly)
    #expect(load() == .completed)
    #expect(store() == .denied(IOVA(Self.here)))
    guest.map(root, Self.here, to: page)
    fixture.send([.tlbi(.tlbiASID, asid: 1)])
    #expect(store() == .completed)
    #expect(guest[page] == 0x2222)
  }

  @Test("without EATS translation requests and translated transactions are errors")
  func disabled() throws {
    fixture.host.openEventQueues()
    try fixture.attach(try fixture.makeStage1(descriptors))
    #expect(load().event?.kind == .badTranslationRequest)
    let request = DMARequest(
      requester: SMMUv3Fixture.stream, .init(), iova: IOVA(Self.here), count: 8, writes: false)
    let refusal = fixture.unit.checkTranslated(request, at: IOVA(Self.here))
    #expect(refusal.map { DMAOutcome.fault($0).event?.kind } == .translatedForbidden)
    try fixture.attach(try fixture.makeStage1(descriptors, plain: Self.enabled))
    #expect(fixture.unit.checkTranslated(request, at: IOVA(Self.here)) == nil)
    fixture.driver.block(SMMUv3Fixture.stream, pasid: nil)
    // CFG abort: no permission, and nothing is recorded.
    guard case .fault(let record) = load() else {
      Issue.record("a blocked function translates")
      return
    }
    #expect(record.isSuppressed)
    #expect(fixture.unit.checkTranslated(request, at: IOVA(Self.here))?.isSuppressed == true)
  }

  @Test("unmap() of a paging domain invalidates the ATC, with and without PASID")
  func ownTables() throws {
    let made = try fixture.driver.makePagingDomain(.pasid, for: SMMUv3Fixture.stream)
    let domain = try #require(made as? SMMUv3PagingDomain)
    try fixture.attach(domain)
    try fixture.attach(domain, pasid: PASID(rawValue: 3))
    let place = guest.physical
    func map() throws {
      try domain.map(IOVA(0x1000_0000), to: place, length: 0x2000, permissions: [.read, .write])
    }
    try map()
    #expect(load(0x1000_0000) == .completed)
    #expect(load(0x1000_1000, pasid: 3) == .completed)
    _ = domain.unmap(IOVA(0x1000_0000), length: 0x2000)
    #expect(load(0x1000_0000) == .denied(IOVA(0x1000_0000)))
    #expect(load(0x1000_1000, pasid: 3) == .denied(IOVA(0x1000_1000)))
  }

  @Test("a change of the nesting parent invalidates the ATC of nested devices")
  func parents() throws {
    try fixture.attach(try fixture.makeStage1(descriptors, plain: Self.enabled))
    #expect(load() == .completed)
    let base = page & ~0x1f_ffff
    _ = fixture.parent.unmap(IOVA(base), length: 0x20_0000)
    #expect(load() != .completed)
  }

  @Test("an attach enables or disables ATS of the function")
  func control() throws {
    let states = Collector<Bool>()
    fixture.driver.setServiceControl(of: SMMUv3Fixture.stream) { states.add($0.contains(.ats)) }
    #expect(fixture.driver.capabilities(of: SMMUv3Fixture.stream).contains(.ats))
    try fixture.attach(fixture.parent)
    try fixture.attach(try fixture.makeStage1(descriptors))
    try fixture.attach(try fixture.makeStage1(descriptors, plain: Self.enabled))
    fixture.driver.block(SMMUv3Fixture.stream, pasid: nil)
    #expect(states.drain() == [true, false, true, false])
  }
}
