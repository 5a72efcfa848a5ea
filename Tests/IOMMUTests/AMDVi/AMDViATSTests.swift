import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite("AMD-Vi: functions that translate for themselves, and page requests")
struct AMDViATSTests {
  private static let device = UInt64(AMDViRig.device.rawValue)
  private let ats = DMAAttributes(usesATS: true)
  private let one = DMAAttributes(pasid: PASID(rawValue: 1), usesATS: true)

  // MARK: The unit

  private func forget(
    _ rig: AMDViRig, _ first: UInt64, _ last: UInt64, pasid: UInt32? = nil
  ) {
    rig.run(
      .invalidateDeviceTLB(
        AMDViPageRange(covering: first, through: last), of: AMDViRig.device,
        pasid: pasid.map { PASID(rawValue: $0) }))
  }

  private func translating(_ entry: DeviceTableEntry) -> DeviceTableEntry {
    var entry = entry
    entry.allowsDeviceTLB = true
    return entry
  }

  @Test("the function keeps what it was told until INVALIDATE_IOTLB_PAGES")
  func staleness() throws {
    let rig = try AMDViRig()
    for page in 0..<4 as Range<UInt64> { rig.guest[rig.guest.data(page)] = page }
    let (gcr3, root) = rig.makeGuest(1, in: rig.guest)
    rig.set(translating(rig.guided(gcr3)))
    rig.guest.map(root, 0x7000, to: rig.guest.data(1))
    #expect(rig.port.load(0x7000, one) == (.completed, 1))
    #expect(rig.port.load(rig.guest.data(0), ats) == (.completed, 0))
    rig.guest.map(root, 0x7000, to: rig.guest.data(2))
    rig.run(.invalidateAll)
    forget(rig, 0x8000, 0x8fff, pasid: 1)
    forget(rig, 0x7000, 0x7fff, pasid: 2)
    #expect(rig.port.load(0x7000, one).1 == 1)
    forget(rig, 0x6000, 0x7fff, pasid: 1)
    #expect(rig.port.load(0x7000, one).1 == 2)
    #expect(rig.port.deviceTranslations == 2)
    // Without PASID: all that has one goes, wherever it is (PCIe 6 §10.3.8).
    rig.guest.map(root, 0x7000, to: rig.guest.data(3))
    rig.run(.invalidateAll)
    forget(rig, 0x1000, 0x1fff)
    #expect(rig.port.deviceTranslations == 1)
    #expect(rig.port.load(0x7000, one).1 == 3)
  }

  @Test("with GIoV, PASID 0 of a command is what has none")
  func withoutPASID() throws {
    let rig = try AMDViRig()
    let (gcr3, root) = rig.makeGuest(0, in: rig.physical)
    var entry = translating(rig.guided(gcr3, nested: false))
    entry.usesGuestTableWithoutPASID = true
    rig.set(entry)
    rig.physical.map(root, 0x7000, to: rig.physical.data(1))
    #expect(rig.port.load(0x7000, ats).0 == .completed)
    forget(rig, 0x8000, 0x8fff, pasid: 0)
    #expect(rig.port.deviceTranslations == 1)
    forget(rig, 0x7000, 0x7fff, pasid: 0)
    #expect(rig.port.deviceTranslations == 0)
    rig.set(translating(rig.hosted))
    #expect(rig.port.load(AMDViRig.base, ats).0 == .completed)
    forget(rig, 0, .max, pasid: 0)
    #expect(rig.port.deviceTranslations == 1)
  }

  @Test(
    "what is not there, not allowed or wrong in the tables is an answer; what is no table, an event"
  )
  func denials() throws {
    let rig = try AMDViRig()
    let (gcr3, root) = rig.makeGuest(1, in: rig.guest)
    rig.set(translating(rig.guided(gcr3)))
    rig.guest.map(root, 0x7000, to: rig.guest.data(1), 5)
    #expect(rig.port.load(0x7000, one).0 == .completed)
    #expect(rig.port.store(1, to: 0x7000, one) == .denied(IOVA(0x7000)))
    #expect(rig.port.load(0x8000, one).0 == .denied(IOVA(0x8000)))
    #expect(rig.port.load(0xfee0_0000, ats).0 == .denied(IOVA(0xfee0_0000)))
    #expect(rig.port.load(0x9_0000_0000, ats).0 == .denied(IOVA(0x9_0000_0000)))
    #expect(rig.unit.consumeEvents().isEmpty)
    rig.guest[rig.guest.entry(root, 1 << 40, level: 3)] = rig.guest.data(0) | 0x87
    #expect(rig.port.load(1 << 40, one).0 == .denied(IOVA(1 << 40)))
    #expect(rig.unit.consumeEvents().isEmpty)
    let nowhere = UInt64(1) << UInt64(rig.memory.addressBits) - 4096
    let (other, table) = rig.makeGuest(1, in: rig.physical)
    rig.physical[rig.physical.entry(table, 1 << 40, level: 3)] = nowhere | 7
    rig.set(translating(rig.guided(other, nested: false)))
    #expect(rig.port.load(1 << 40, one).0.amdviEvent?.kind == .pageTableError)
    // GN, TR, and a master abort.
    let event = try rig.takeEntry()
    #expect(event[0] >> 48 == 4 << 12 | 1 << 9 | 1 << 8 | 1)
    #expect(event[1] == nowhere)
  }

  @Test("without I a translation request is an INVALID_DEVICE_REQUEST, and so is a translated one")
  func entries() throws {
    let rig = try AMDViRig()
    rig.set(rig.hosted)
    #expect(rig.port.load(AMDViRig.base, ats).0.amdviEvent?.kind == .invalidRequest)
    #expect(try rig.takeEntry() == [8 << 60 | 1 << 56 | Self.device, AMDViRig.base])
    let request = DMARequest(
      requester: AMDViRig.device, ats, iova: IOVA(0x1000), count: 8, writes: false)
    let record = try #require(rig.unit.checkTranslated(request, at: IOVA(0x1000)))
    rig.unit.report(record)
    #expect(try rig.takeEntry() == [8 << 60 | 1 << 57 | Self.device, 0x1000])
    rig.set(translating(rig.hosted))
    #expect(rig.unit.checkTranslated(request, at: IOVA(0x1000)) == nil)
    #expect(rig.port.load(AMDViRig.base, ats).0 == .completed)
    // Cached by the function, and then not allowed any more.
    rig.set(rig.hosted)
    #expect(rig.port.load(AMDViRig.base, ats).0.amdviEvent?.type == 1)
    #expect(try rig.takeEntry() == [8 << 60 | 1 << 57 | Self.device, AMDViRig.base])
    rig.set(DeviceTableEntry())
    rig.port.resetDeviceTLB()
    #expect(rig.port.load(AMDViRig.base, ats).0.amdviEvent?.type == 8)
    var beyond = rig.hosted
    beyond.hostLevels = 7
    rig.set(beyond)
    #expect(rig.port.load(AMDViRig.base, ats).0.amdviEvent?.kind == .illegalDeviceTableEntry)
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.deviceTLBs = false
    let plain = try AMDViRig(configuration)
    #expect(throws: AMDViUnit.IllegalCommand(index: 0)) {
      try plain.unit.execute([
        .invalidateDeviceTLB(.everything, of: AMDViRig.device, pasid: nil)
      ])
    }
  }

  @Test("page requests: PPR of the entry, the record of those without, answers by tag")
  func pageRequests() throws {
    let rig = try AMDViRig()
    let (gcr3, _) = rig.makeGuest(1, in: rig.guest)
    var entry = translating(rig.guided(gcr3))
    rig.set(entry)
    let asked = Collector<PageRequest>()
    #expect(
      rig.port.requestPages(IOVA(0x5000), count: 8, writes: true, one) == .answered(.failure),
      "nobody listens")
    rig.unit.setPageRequestSink { asked.add($0) }
    #expect(
      rig.port.requestPages(IOVA(0x5008), count: 8, writes: true, one) == .awaited(group: 1))
    #expect(asked.take().isEmpty)
    // DeviceID, PASID, tag with LAST, GN.
    let expected: [UInt64] = [9 << 60 | 1 << 57 | 0x201 << 32 | 1 << 16 | Self.device, 0x5000]
    #expect(try rig.takeEntry() == expected)
    entry.allowsPageRequests = true
    rig.set(entry)
    #expect(
      rig.port.requestPages(IOVA(0x5ff8), count: 16, writes: true, one) == .awaited(group: 2))
    #expect(asked.take().map(\.address.rawValue) == [0x5000, 0x6000])
    let answers = Collector<UInt32>()
    rig.port.setPageResponseReceiver { group, response in
      answers.add(group << 8 | UInt32(response.code))
    }
    for (group, response) in [
      (1, .invalid), (3, .success), (2, .failure),
    ] as [(UInt32, PageResponse)] {
      rig.run(
        .completePageRequest(
          of: AMDViRig.device, pasid: PASID(rawValue: 1), group: group, response))
    }
    #expect(answers.take() == [0x101, 0x20f])
    #expect(PageResponse(code: 2) == .failure)
  }

  // MARK: The driver

  @Test("which tables switch which of the function's services")
  func services() throws {
    let machine = try AMDViMachine(hasATS: true)
    let states = Collector<[Bool]>()
    machine.driver.setServiceControl(of: AMDViMachine.device) {
      states.add([$0.contains(.ats), $0.contains(.pageRequests)])
    }
    func last() -> [Bool] { states.take().last ?? [] }
    #expect(machine.driver.capabilities(of: AMDViMachine.device).contains(.ats))
    try machine.attach(machine.parent)
    #expect(last() == [true, false])
    #expect(try machine.entry().allowsDeviceTLB)
    let guest = try machine.make(.pasid)
    try machine.attach(guest)
    #expect(last() == [true, true])
    #expect(try machine.entry().allowsPageRequests)
    machine.driver.block(AMDViMachine.device, pasid: nil)
    #expect(last() == [false, false])
    let table = machine.guest.take()
    try machine.attach(try machine.nested(gcr3: table))
    #expect(last() == [false, false])
    try machine.attach(
      try machine.nested(gcr3: table) {
        $0.allowsDeviceTLB = true
        $0.allowsPageRequests = true
      })
    #expect(last() == [true, true])
    #expect(try machine.entry().allowsDeviceTLB)
    let plain = try AMDViMachine()
    try plain.attach(plain.parent)
    #expect(try !plain.entry().allowsDeviceTLB)
    #expect(!plain.driver.capabilities(of: AMDViMachine.device).contains(.ats))
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.pageRequests = false
    #expect(
      !(try AMDViMachine(configuration, hasATS: true)).driver
        .capabilities(of: AMDViMachine.device).contains(.ats))
  }

  @Test("unmapping reaches the function", arguments: [false, true])
  func unmapping(isGuest: Bool) throws {
    let machine = try AMDViMachine(hasATS: true)
    let domain = try machine.make(isGuest ? .pasid : [])
    try machine.attach(domain)
    let page = machine.guest.place(machine.guest.data(0))
    // One by one, so that there are two pages.
    for iova in [0x1_0000, 0x1_1000] as [UInt64] {
      try domain.map(IOVA(iova), to: page, length: 0x1000, permissions: [.read, .write])
    }
    #expect(machine.port.load(0x1_0000, ats).0 == .completed)
    #expect(machine.port.load(0x1_1000, ats).0 == .completed)
    domain.unmap(IOVA(0x1_1000), length: 0x1000)
    #expect(machine.port.deviceTranslations == 1)
    #expect(machine.port.load(0x1_1000, ats).0 == .denied(IOVA(0x1_1000)))
    #expect(machine.port.load(0x1_0000, ats).0 == .completed)
    machine.driver.block(AMDViMachine.device, pasid: nil)
    #expect(machine.port.deviceTranslations == 0)
    #expect(machine.faults.take().isEmpty)
  }

  @Test("what the parent changes reaches functions behind a guest's tables")
  func parents() throws {
    let machine = try AMDViMachine(hasATS: true)
    let guest = machine.guest
    let (gcr3, root) = (guest.take(), guest.take())
    guest[gcr3 + 8] = root | 1
    guest.map(root, 0x7000, to: guest.data(0))
    try machine.attach(try machine.nested(gcr3: gcr3) { $0.allowsDeviceTLB = true })
    #expect(machine.port.load(0x7000, one).0 == .completed)
    #expect(machine.port.load(guest.data(1), ats).0 == .completed)
    guest.map(root, 0x7000, to: guest.data(2))
    #expect(machine.port.load(0x7000, one).0 == .completed)
    #expect(machine.port.deviceTranslations == 2)
    let spare = IOVA(0x9000_0000)
    try machine.parent.map(
      spare, to: guest.place(guest.data(0)), length: 0x1000, permissions: .read)
    machine.parent.unmap(spare, length: 0x1000)
    #expect(machine.port.deviceTranslations == 0)
  }

  @Test("a guest's page requests by PASID go on; those without one, and beyond, are failures")
  func routes() throws {
    let machine = try AMDViMachine(pasidBits: 8, hasATS: true)
    let asked = Collector<PageRequest>()
    machine.driver.setPageRequestSink { asked.add($0) }
    try machine.attach(
      try machine.nested(gcr3: machine.guest.take()) {
        $0.allowsDeviceTLB = true
        $0.allowsPageRequests = true
      })
    func ask(_ pasid: UInt32?) -> PageRequestAnswer {
      machine.port.requestPages(
        IOVA(0xa_0000_0000), count: 8, writes: false,
        DMAAttributes(pasid: pasid.map { PASID(rawValue: $0) }, usesATS: true))
    }
    #expect(machine.driver.hasUserPASIDTable)
    #expect(ask(nil) == .answered(.failure))
    #expect(ask(0) == .answered(.failure))
    #expect(ask(256) == .answered(.failure))
    #expect(asked.take().isEmpty)
    #expect(ask(255) == .awaited(group: 3))
    let request = try #require(asked.take().first)
    let answers = Collector<UInt32>()
    machine.port.setPageResponseReceiver { group, _ in answers.add(group) }
    machine.driver.respond(to: request.groupID, .success)
    #expect(answers.take() == [3])
    // Where the guest's entry does not allow it the driver answers for the unit, and it is recorded.
    try machine.attach(try machine.nested(gcr3: machine.guest.take()) { $0.allowsDeviceTLB = true })
    #expect(ask(1) == .answered(.failure))
    #expect(
      machine.faults.take().map { DMAOutcome.fault($0).amdviEvent?.kind } == [.invalidPageRequest])
    #expect(!(try AMDViMachine(guestTableInterface: .kernel)).driver.hasUserPASIDTable)
  }
}
