import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite("SMMUv3: functions that translate for themselves")
struct SMMUv3ATSTests {
  private let machine: SMMUv3Machine
  private let guest: SMMUv3Guest
  private let root: UInt64
  private let page: UInt64
  private let descriptors: UInt64
  private static let here: UInt64 = 0x7654_3210_0000
  private static let stream = StreamID(rawValue: UInt32(SMMUv3Machine.virtualStream))
  /// EATS of a guest's entry, in its second word, beside S1DSS.
  private static let enabled: UInt64 = 1 << 28 | 2

  init() throws {
    var configuration = SMMUv3Unit.Configuration()
    configuration.capabilities.ats = true
    machine = try SMMUv3Machine(configuration, hasATS: true)
    guest = machine.guest
    machine.knowDevice()
    (root, page, descriptors) = guest.makeSpace(at: Self.here)
    guest.store(.test(root, asid: 5), at: descriptors + 5 * 64)
    guest[page] = 0x1111
  }

  private func load(_ address: UInt64 = here, pasid: UInt32? = nil) -> DMAOutcome {
    let pasid = pasid.map { PASID(rawValue: $0) }
    return machine.port.load(address, DMAAttributes(pasid: pasid, usesATS: true)).0
  }

  private func store(_ address: UInt64 = here) -> DMAOutcome {
    machine.port.store(0x2222, to: address, DMAAttributes(usesATS: true))
  }

  private func forget(_ address: UInt64, shift: Int = 12, pasid: UInt32? = nil) {
    machine.send([
      .invalidateATC(
        Self.stream, pasid: pasid.map { PASID(rawValue: $0) }, address: IOVA(address),
        sizeShift: shift)
    ])
  }

  @Test("the function keeps what it was told until CMD_ATC_INV")
  func staleness() throws {
    try machine.attach(try machine.stage1(descriptors, plain: Self.enabled))
    #expect(load() == .completed)
    guest.unmap(root, Self.here)
    machine.send([.tlbi(.tlbiASID, asid: 1)])
    #expect(load() == .completed)
    forget(Self.here + 0x1000)
    forget(Self.here, pasid: 5)
    #expect(load() == .completed)
    forget(Self.here)
    #expect(load() == .denied(IOVA(Self.here)))
    // "Not there" is an answer, which nobody keeps.
    guest.map(root, Self.here, to: page)
    #expect(load() == .completed)
  }

  @Test("the unit's TLB has to be invalidated first")
  func order() throws {
    try machine.attach(try machine.stage1(descriptors, plain: Self.enabled))
    #expect(load() == .completed)
    guest.unmap(root, Self.here)
    forget(Self.here)
    #expect(load() == .completed)
    machine.send([.tlbi(.tlbiASID, asid: 1)])
    forget(Self.here)
    #expect(load() == .denied(IOVA(Self.here)))
  }

  @Test("sizes and PASIDs of CMD_ATC_INV", arguments: [12, 13, 21, 39, 64])
  func scopes(shift: Int) throws {
    try machine.attach(try machine.stage1(descriptors, plain: Self.enabled))
    let offsets: [UInt64] = [0, 0x1000, 0x2000, 0x20_0000, 0x80_0000_0000]
    for offset in offsets { guest.map(root, Self.here + offset, to: page) }
    for offset in offsets {
      #expect(load(Self.here + offset) == .completed)
      #expect(load(Self.here + offset, pasid: 5) == .completed)
    }
    for offset in offsets { guest.unmap(root, Self.here + offset) }
    machine.send([.tlbi(.tlbiASID, asid: 1), .tlbi(.tlbiASID, asid: 5)])
    forget(Self.here, shift: shift, pasid: 5)
    for offset in offsets {
      let isGone = shift == 64 || (Self.here ^ (Self.here + offset)) >> UInt64(shift) == 0
      let address = Self.here + offset
      #expect(load(address) == .completed)
      #expect(load(address, pasid: 5) == (isGone ? .denied(IOVA(address)) : .completed))
    }
    // Without PASID all of the addresses go.
    forget(Self.here, shift: 64)
    for offset in offsets {
      #expect(load(Self.here + offset) == .denied(IOVA(Self.here + offset)))
      #expect(load(Self.here + offset, pasid: 5) == .denied(IOVA(Self.here + offset)))
    }
  }

  @Test("what may not be written is asked for again, and denied")
  func permissions() throws {
    try machine.attach(try machine.stage1(descriptors, plain: Self.enabled))
    guest.map(root, Self.here, to: page, SMMUv3Guest.leaf | SMMUv3Guest.readOnly)
    #expect(load() == .completed)
    #expect(store() == .denied(IOVA(Self.here)))
    guest.map(root, Self.here, to: page)
    machine.send([.tlbi(.tlbiASID, asid: 1)])
    #expect(store() == .completed)
    #expect(guest[page] == 0x2222)
  }

  @Test("without EATS translation requests and translated transactions are errors")
  func disabled() throws {
    machine.host.openQueue()
    try machine.attach(try machine.stage1(descriptors))
    #expect(load().event?.kind == .badTranslationRequest)
    let request = DMARequest(
      requester: SMMUv3Machine.stream, .init(), iova: IOVA(Self.here), count: 8, writes: false)
    let refusal = machine.unit.checkTranslated(request, at: IOVA(Self.here))
    #expect(refusal.map { DMAOutcome.fault($0).event?.kind } == .translatedForbidden)
    try machine.attach(try machine.stage1(descriptors, plain: Self.enabled))
    #expect(machine.unit.checkTranslated(request, at: IOVA(Self.here)) == nil)
    machine.driver.block(SMMUv3Machine.stream, pasid: nil)
    // CFG abort: no permission, and nothing is recorded.
    guard case .fault(let record) = load() else {
      Issue.record("a blocked function translates")
      return
    }
    #expect(record.isSuppressed)
    #expect(machine.unit.checkTranslated(request, at: IOVA(Self.here))?.isSuppressed == true)
  }

  @Test("the kernel's own tables: unmapping reaches the function, with and without PASID")
  func ownTables() throws {
    let made = try machine.driver.makePagingDomain(.pasid, for: SMMUv3Machine.stream)
    let domain = try #require(made as? SMMUv3PagingDomain)
    try machine.attach(domain)
    try machine.attach(domain, pasid: PASID(rawValue: 3))
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

  @Test("a nesting parent's change reaches the functions of its guests")
  func parents() throws {
    try machine.attach(try machine.stage1(descriptors, plain: Self.enabled))
    #expect(load() == .completed)
    let base = page & ~0x1f_ffff
    _ = machine.parent.unmap(IOVA(base), length: 0x20_0000)
    #expect(load() != .completed)
  }

  @Test("attached tables switch the function's ATS")
  func control() throws {
    let states = Collector<Bool>()
    machine.driver.setServiceControl(of: SMMUv3Machine.stream) { states.add($0.contains(.ats)) }
    #expect(machine.driver.capabilities(of: SMMUv3Machine.stream).contains(.ats))
    try machine.attach(machine.parent)
    try machine.attach(try machine.stage1(descriptors))
    try machine.attach(try machine.stage1(descriptors, plain: Self.enabled))
    machine.driver.block(SMMUv3Machine.stream, pasid: nil)
    #expect(states.take() == [true, false, true, false])
  }
}
