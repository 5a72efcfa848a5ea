import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite("amd: DMA through the driver's domains")
struct AMDViFlowTests {
  private let one = PASID(rawValue: 1)

  @Test("host and guest tables: data, holes, unmapped pages", arguments: [false, true])
  func domains(isGuest: Bool) throws {
    let machine = try AMDViMachine()
    let domain = try machine.make(isGuest ? .pasid : [])
    try machine.attach(domain)
    let page = machine.guest.place(machine.guest.data(0))
    try domain.map(IOVA(0x1000), to: page, length: 0x3000, permissions: [.read, .write])
    #expect(domain.physicalAddress(of: IOVA(0x2008)) == PhysicalAddress(page.rawValue + 0x1008))
    #expect(machine.port.store(5, to: 0x1ffc) == .completed)
    #expect(machine.port.load(0x1ffc).1 == 5)
    #expect(machine.port.load(0x4000).0.amdviEvent?.kind == .pageFault)
    #expect(domain.unmap(IOVA(0x2000), length: 0x1000) == 0x1000)
    #expect(machine.port.load(0x1ff8).0 == .completed)
    #expect(machine.port.load(0x2000).0.amdviEvent?.kind == .pageFault)
    try domain.map(IOVA(0x2000), to: page, length: 0x1000, permissions: .read)
    #expect(machine.port.load(0x2ffc).0 == .completed)
    #expect(machine.port.store(1, to: 0x2000).amdviEvent?.isDenied == true)
    machine.driver.block(AMDViMachine.device, pasid: nil)
    #expect(machine.port.load(0x1000).0.amdviEvent?.isPresent == false)
    #expect(machine.faults.take().count == 4)
  }

  @Test("requests without PASID to a guest table: which event")
  func guestEvents() throws {
    let machine = try AMDViMachine()
    let domain = try machine.make(.pasid)
    try machine.attach(domain)
    let zero = AMDViEvent.AddressSpace.pasid(PASID(rawValue: 0))
    #expect(machine.port.load(0x5000).0.amdviEvent == .absent(zero, at: 0x5000))
    #expect(
      machine.port.load(0x5000, pasid: one).0.amdviEvent == .absent(.pasid(one), at: 0x5000))
  }

  @Test("a host table grows with the addresses in it, and devices follow")
  func growth() throws {
    let machine = try AMDViMachine()
    let domain = try machine.make([])
    try machine.attach(domain)
    let page = machine.guest.place(machine.guest.data(0))
    func map(_ address: UInt64) throws {
      try domain.map(IOVA(address), to: page, length: 0x1000, permissions: [.read, .write])
    }
    try map(0x1000)
    #expect(machine.port.store(9, to: 0x1000) == .completed)
    for (address, levels) in [
      (1 << 38, 3), (1 << 39, 4), (1 << 48 - 0x1000, 4), (1 << 57, 6), (0xffff_ffff_ffff_f000, 6),
    ] as [(UInt64, Int)] {
      try map(address)
      #expect(try machine.entry().hostLevels == levels)
      #expect(machine.port.load(address).1 == 9)
      #expect(machine.port.load(0x1000).1 == 9)
      #expect(domain.physicalAddress(of: IOVA(address)) == page)
    }
    #expect(domain.unmap(IOVA(1 << 57), length: 0x1000) == 0x1000)
    #expect(domain.unmap(IOVA(1 << 56), length: 0x1000) == 0)
    #expect(machine.port.load(1 << 57).0.amdviEvent?.kind == .pageFault)
    // Nothing is lost where a table cannot grow: addresses beyond what the unit has.
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.hostLevels = 4
    let small = try AMDViMachine(configuration)
    #expect(
      AMDViMachine.failure { () throws(Errno) in
        try small.parent.map(
          IOVA(1 << 48), to: page, length: 0x1000, permissions: .read)
      } == .outOfRange)
    #expect(small.parent.unmap(IOVA(1 << 48), length: 0x1000) == 0)
    #expect(small.parent.physicalAddress(of: IOVA(1 << 48)) == nil)
  }

  @Test("dirty tracking: HAD of the entries while it is on, flags of the table")
  func dirtyTracking() throws {
    let machine = try AMDViMachine()
    let domain = try machine.make(.dirtyTracking)
    try machine.attach(domain)
    let page = machine.guest.place(machine.guest.data(0))
    try domain.map(IOVA(0x1_0000), to: page, length: 0x4000, permissions: [.read, .write])
    func dirty(clearing: Bool = true) throws -> [UInt64] {
      var found: [UInt64] = []
      try domain.readDirty(IOVA(0)...IOVA(0xf_ffff), clearing: clearing) { start, length in
        found += [start.rawValue, length]
      }
      return found
    }
    #expect(machine.port.store(1, to: 0x1_0000) == .completed)
    #expect(try dirty() == [])
    #expect(try machine.entry().hostFlags == 0)
    try domain.setDirtyTracking(true)
    #expect(try machine.entry().hostFlags == 3)
    #expect(machine.port.load(0x1_0000).0 == .completed)
    #expect(try dirty() == [])
    #expect(machine.port.store(1, to: 0x1_2000) == .completed)
    #expect(try dirty(clearing: false) == [0x1_0000, 0x4000])
    #expect(try dirty() == [0x1_0000, 0x4000])
    #expect(try dirty() == [])
    #expect(machine.port.store(1, to: 0x1_3000) == .completed)
    #expect(try dirty() == [0x1_0000, 0x4000])
    try domain.setDirtyTracking(false)
    #expect(machine.port.store(1, to: 0x1_3000) == .completed)
    #expect(try dirty() == [])
    #expect(try machine.entry().hostFlags == 0)
    // A device that is attached meanwhile begins as the domain is.
    try domain.setDirtyTracking(true)
    machine.driver.block(AMDViMachine.device, pasid: nil)
    try machine.attach(domain)
    #expect(try machine.entry().hostFlags == 3)
  }

  // MARK: Nested

  @Test("the entry of a nested domain: the guest's part, the host's part")
  func nestedEntry() throws {
    let machine = try AMDViMachine()
    let words: [UInt64] = [
      1 | 1 << 1 | 3 << 7 | 1 << 52 | 1 << 53 | 1 << 54 | 1 << 55 | 1 << 56 | 5 << 58 | 3 << 61,
      0x1234 | 0x8001 << 16 | 0x7f << 32 | 1 << 43, 1 << 54 ^ 1 << 54 | 0xff, 0xff,
    ]
    let domain = try machine.nested(words)
    try machine.attach(domain)
    let entry = try machine.entry()
    // V, TV, Mode 3, PPR, GIoV, GV, GLX, GCR3 [14:12], IR and IW: the guest has no say in HAD and GPRP.
    #expect(
      entry.words[0] & ~0x000f_ffff_ffff_f000
        == 3 | 3 << 9 | 1 << 52 | 1 << 54 | 1 << 55 | 1 << 56 | 5 << 58 | 3 << 61)
    #expect(entry.hostTable == machine.parent.root)
    #expect(entry.words[1] & ~0xffff == 0x8001 << 16 | 1 << 43)
    #expect(entry.domain.rawValue != 0x1234)
    #expect(entry.words[2] == 0)
    #expect(entry.words[3] == 0)
    machine.driver.block(AMDViMachine.device, pasid: nil)
    // What is not valid for the guest has GV nevertheless: by device id the guest's memory is seen.
    try machine.attach(try machine.nested([0, 0, 0, 0]))
    #expect(try machine.entry().isGuestValid)
    #expect(machine.port.load(AMDViRig.base).0 == .completed)
  }

  @Test("a guest's domain ids: one of the unit's for each, in each guest")
  func domainIDs() throws {
    let machine = try AMDViMachine()
    let other = try machine.driver.makeVirtualIOMMU(
      type: 1, on: machine.parent, for: AMDViMachine.device, host: VirtualHost(), data: nil)
    func make(_ domain: UInt64, _ unit: (any VirtualIOMMU)? = nil) throws -> AMDViNestedDomain {
      let made = try machine.nested([0, domain, 0, 0], on: unit)
      return try #require(made as? AMDViNestedDomain)
    }
    let first = try make(5)
    #expect(try make(5).hostDomain == first.hostDomain)
    #expect(try make(5).hostDomain == first.hostDomain)
    #expect(try make(6).hostDomain != first.hostDomain)
    #expect(try make(5, other).hostDomain != first.hostDomain)
    #expect(try make(0).hostDomain != first.hostDomain)
    // 6 is free again, and so is its id.
    let ids = Set(try (0..<4).map { try make(6 + UInt64($0)).hostDomain })
    #expect(ids.count == 1)
  }

  @Test("data by PASID and without; stale until detached, or something of the host's is unmapped")
  func nestedCaches() throws {
    let machine = try AMDViMachine()
    let guest = machine.guest
    let (gcr3, root) = (guest.take(), guest.take())
    guest[gcr3 + 8] = root | 1
    guest.map(root, 0x7000, to: guest.data(0))
    for page in 0..<3 { guest[guest.data(UInt64(page))] = UInt64(page) }
    let domain = try machine.nested(gcr3: gcr3)
    try machine.attach(domain)
    #expect(machine.port.load(0x7000, pasid: one).1 == 0)
    #expect(machine.port.load(guest.data(2)).1 == 2)
    guest.map(root, 0x7000, to: guest.data(1))
    #expect(machine.port.load(0x7000, pasid: one).1 == 0)
    let spare = IOVA(0x9000_0000)
    try machine.parent.map(
      spare, to: guest.place(guest.data(0)), length: 0x1000, permissions: .read)
    #expect(machine.port.load(0x7000, pasid: one).1 == 0)
    machine.parent.unmap(spare, length: 0x1000)
    #expect(machine.port.load(0x7000, pasid: one).1 == 1)
    guest.map(root, 0x7000, to: guest.data(2))
    #expect(machine.port.load(0x7000, pasid: one).1 == 1)
    let again = try machine.nested(gcr3: gcr3)
    try machine.attach(again)
    #expect(machine.port.load(0x7000, pasid: one).1 == 2)
    machine.driver.block(AMDViMachine.device, pasid: nil)
    #expect(machine.unit.cachedTranslations == 0)
  }

  @Test("a nested device follows when the parent's table grows, and its dirty tracking")
  func parents() throws {
    let machine = try AMDViMachine()
    let parent = try machine.make([.nestParent, .dirtyTracking])
    let virtual = try machine.driver.makeVirtualIOMMU(
      type: 1, on: parent, for: AMDViMachine.device, host: VirtualHost(), data: nil)
    try machine.attach(try machine.nested([0, 0, 0, 0], on: virtual))
    let page = machine.guest.place(machine.guest.data(1))
    try parent.map(IOVA(1 << 45), to: page, length: 0x1000, permissions: [.read, .write])
    #expect(try machine.entry().hostLevels == 4)
    #expect(machine.port.store(3, to: 1 << 45) == .completed)
    try parent.setDirtyTracking(true)
    #expect(try machine.entry().hostFlags == 3)
    #expect(try machine.entry().isGuestValid)
  }

  @Test("from nested to the parent and back; not from a guest table with PASIDs")
  func replacement() throws {
    let machine = try AMDViMachine()
    let nested = try machine.nested(gcr3: machine.guest.take())
    try machine.attach(machine.parent)
    try machine.attach(nested)
    #expect(try machine.entry().isGuestValid)
    try machine.attach(machine.parent)
    #expect(try !machine.entry().isGuestValid)
    let guest = try machine.make(.pasid)
    try machine.attach(guest)
    #expect(
      AMDViMachine.failure { () throws(Errno) in try machine.attach(nested) } == .invalidArgument)
    #expect(try machine.entry().usesGuestTableWithoutPASID)
    let plain = try AMDViMachine(pasidBits: 0)
    try plain.attach(try plain.make(.pasid))
    try plain.attach(try plain.nested(gcr3: plain.guest.take()))
  }

  @Test("what domains take they give back")
  func resources() throws {
    let machine = try AMDViMachine()
    func use() throws {
      let guest = try machine.make(.pasid)
      try machine.attach(guest)
      try machine.attach(try machine.make([]))
      let nested = try machine.nested(gcr3: machine.guest.data(0))
      try machine.attach(nested)
      machine.driver.block(AMDViMachine.device, pasid: nil)
    }
    try use()
    let tables = machine.memory.tablePagesInUse
    let id = try machine.driver.domainIDs.allocate()
    machine.driver.domainIDs.release(id)
    for _ in 0..<10 { try use() }
    #expect(machine.memory.tablePagesInUse == tables)
    #expect(try machine.driver.domainIDs.allocate() == id)
  }
}
