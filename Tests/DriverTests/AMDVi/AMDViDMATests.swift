// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite("amd: DMA through the driver's domains")
struct AMDViDMATests {
  private let one = PASID(rawValue: 1)

  @Test(
    "DMA through host and guest tables moves data, and faults on holes and unmapped pages",
    arguments: [false, true])
  func domains(isGuest: Bool) throws {
    let fixture = try AMDViDriverFixture()
    let domain = try fixture.makeDomain(isGuest ? .pasid : [])
    try fixture.attach(domain)
    let page = fixture.guest.physicalAddress(of: fixture.guest.data(0))
    try domain.map(IOVA(0x1000), to: page, length: 0x3000, permissions: [.read, .write])
    #expect(domain.physicalAddress(of: IOVA(0x2008)) == PhysicalAddress(page.rawValue + 0x1008))
    #expect(fixture.port.store(5, to: 0x1ffc) == .completed)
    #expect(!fixture.port.inFlight.expectsHit, "a request after a page walk takes the general path")
    #expect(fixture.port.load(0x1ffc).1 == 5)
    #expect(fixture.port.inFlight.expectsHit, "a request after a hit takes the fast path")
    #expect(fixture.port.load(0x4000).0.amdviEvent?.kind == .pageFault)
    #expect(domain.unmap(IOVA(0x2000), length: 0x1000) == 0x1000)
    #expect(fixture.port.load(0x1ff8).0 == .completed)
    #expect(fixture.port.load(0x2000).0.amdviEvent?.kind == .pageFault)
    try domain.map(IOVA(0x2000), to: page, length: 0x1000, permissions: .read)
    #expect(fixture.port.load(0x2ffc).0 == .completed)
    #expect(fixture.port.store(1, to: 0x2000).amdviEvent?.isDenied == true)
    fixture.driver.block(AMDViDriverFixture.device, pasid: nil)
    #expect(fixture.port.load(0x1000).0.amdviEvent?.isPresent == false)
    #expect(fixture.faults.drain().count == 4)
  }

  @Test("a fault of a request without PASID in a guest table has PASID 0")
  func guestEvents() throws {
    let fixture = try AMDViDriverFixture()
    let domain = try fixture.makeDomain(.pasid)
    try fixture.attach(domain)
    let zero = AMDViEvent.AddressSpace.pasid(PASID(rawValue: 0))
    #expect(fixture.port.load(0x5000).0.amdviEvent == .absent(zero, at: 0x5000))
    #expect(
      fixture.port.load(0x5000, pasid: one).0.amdviEvent == .absent(.pasid(one), at: 0x5000))
  }

  @Test("a host table gets more levels for higher addresses, and the entries of its devices follow")
  func growth() throws {
    let fixture = try AMDViDriverFixture()
    let domain = try fixture.makeDomain([])
    try fixture.attach(domain)
    let page = fixture.guest.physicalAddress(of: fixture.guest.data(0))
    func map(_ address: UInt64) throws {
      try domain.map(IOVA(address), to: page, length: 0x1000, permissions: [.read, .write])
    }
    try map(0x1000)
    #expect(fixture.port.store(9, to: 0x1000) == .completed)
    for (address, levels) in [
      (1 << 38, 3), (1 << 39, 4), (1 << 48 - 0x1000, 4), (1 << 57, 6), (0xffff_ffff_ffff_f000, 6),
    ] as [(UInt64, Int)] {
      try map(address)
      #expect(try fixture.entry().hostLevels == levels)
      #expect(fixture.port.load(address).1 == 9)
      #expect(fixture.port.load(0x1000).1 == 9)
      #expect(domain.physicalAddress(of: IOVA(address)) == page)
    }
    #expect(domain.unmap(IOVA(1 << 57), length: 0x1000) == 0x1000)
    #expect(domain.unmap(IOVA(1 << 56), length: 0x1000) == 0)
    #expect(fixture.port.load(1 << 57).0.amdviEvent?.kind == .pageFault)
    // A map beyond the largest table of the unit fails and keeps the mappings.
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.hostLevels = 4
    let small = try AMDViDriverFixture(configuration)
    #expect(
      failure { () throws(Errno) in
        try small.parent.map(
          IOVA(1 << 48), to: page, length: 0x1000, permissions: .read)
      } == .outOfRange)
    #expect(small.parent.unmap(IOVA(1 << 48), length: 0x1000) == 0)
    #expect(small.parent.physicalAddress(of: IOVA(1 << 48)) == nil)
  }

  @Test("dirty tracking sets HAD of the device table entries and reads the flags of the table")
  func dirtyTracking() throws {
    let fixture = try AMDViDriverFixture()
    let domain = try fixture.makeDomain(.dirtyTracking)
    try fixture.attach(domain)
    let page = fixture.guest.physicalAddress(of: fixture.guest.data(0))
    try domain.map(IOVA(0x1_0000), to: page, length: 0x4000, permissions: [.read, .write])
    func dirty(clearing: Bool = true) throws -> [UInt64] {
      var found: [UInt64] = []
      try domain.readDirty(IOVA(0)...IOVA(0xf_ffff), clearing: clearing) { start, length in
        found += [start.rawValue, length]
      }
      return found
    }
    #expect(fixture.port.store(1, to: 0x1_0000) == .completed)
    #expect(try dirty() == [])
    #expect(try fixture.entry().hostFlags == 0)
    try domain.setDirtyTracking(true)
    #expect(try fixture.entry().hostFlags == 3)
    #expect(fixture.port.load(0x1_0000).0 == .completed)
    #expect(try dirty() == [])
    #expect(fixture.port.store(1, to: 0x1_2000) == .completed)
    #expect(try dirty(clearing: false) == [0x1_0000, 0x4000])
    #expect(try dirty() == [0x1_0000, 0x4000])
    #expect(try dirty() == [])
    #expect(fixture.port.store(1, to: 0x1_3000) == .completed)
    #expect(try dirty() == [0x1_0000, 0x4000])
    try domain.setDirtyTracking(false)
    #expect(fixture.port.store(1, to: 0x1_3000) == .completed)
    #expect(try dirty() == [])
    #expect(try fixture.entry().hostFlags == 0)
    // A device that is attached while dirty tracking is on gets HAD at once.
    try domain.setDirtyTracking(true)
    fixture.driver.block(AMDViDriverFixture.device, pasid: nil)
    try fixture.attach(domain)
    #expect(try fixture.entry().hostFlags == 3)
  }

  // MARK: Nested

  @Test("the device table entry of a nested domain has the guest's and the host's fields")
  func nestedEntry() throws {
    let fixture = try AMDViDriverFixture()
    let words: [UInt64] = [
      1 | 1 << 1 | 3 << 7 | 1 << 52 | 1 << 53 | 1 << 54 | 1 << 55 | 1 << 56 | 5 << 58 | 3 << 61,
      0x1234 | 0x8001 << 16 | 0x7f << 32 | 1 << 43, 1 << 54 ^ 1 << 54 | 0xff, 0xff,
    ]
    let domain = try fixture.makeNested(words)
    try fixture.attach(domain)
    let entry = try fixture.entry()
    // V, TV, Mode 3, PPR, GIoV, GV, GLX, GCR3 [14:12], IR and IW. HAD and GPRP of the guest are
    // ignored.
    #expect(
      entry.words[0] & ~0x000f_ffff_ffff_f000
        == 3 | 3 << 9 | 1 << 52 | 1 << 54 | 1 << 55 | 1 << 56 | 5 << 58 | 3 << 61)
    #expect(entry.hostTable == fixture.parent.root)
    #expect(entry.words[1] & ~0xffff == 0x8001 << 16 | 1 << 43)
    #expect(entry.domain.rawValue != 0x1234)
    #expect(entry.words[2] == 0)
    #expect(entry.words[3] == 0)
    fixture.driver.block(AMDViDriverFixture.device, pasid: nil)
    // An entry that the guest has not made valid still has GV. Requests without PASID reach the
    // guest's memory.
    try fixture.attach(try fixture.makeNested([0, 0, 0, 0]))
    #expect(try fixture.entry().isGuestValid)
    #expect(fixture.port.load(AMDViTables.hostBase).0 == .completed)
  }

  @Test("each domain ID of each guest has its own domain ID of the unit")
  func domainIDs() throws {
    let fixture = try AMDViDriverFixture()
    let other = try fixture.driver.makeVirtualIOMMU(
      type: 1, on: fixture.parent, for: AMDViDriverFixture.device, host: RecordingVIOMMUHost(),
      data: nil)
    func make(_ domain: UInt64, _ unit: (any VirtualIOMMU)? = nil) throws -> AMDViNestedDomain {
      let made = try fixture.makeNested([0, domain, 0, 0], on: unit)
      return try #require(made as? AMDViNestedDomain)
    }
    let first = try make(5)
    #expect(try make(5).hostDomain == first.hostDomain)
    #expect(try make(5).hostDomain == first.hostDomain)
    #expect(try make(6).hostDomain != first.hostDomain)
    #expect(try make(5, other).hostDomain != first.hostDomain)
    #expect(try make(0).hostDomain != first.hostDomain)
    // The domain that had the guest's ID 6 is destroyed, so its ID of the unit is free.
    let ids = Set(try (0..<4).map { try make(6 + UInt64($0)).hostDomain })
    #expect(ids.count == 1)
  }

  @Test("cached guest translations stay until the device is detached or the host unmaps a page")
  func nestedCaches() throws {
    let fixture = try AMDViDriverFixture()
    let guest = fixture.guest
    let (gcr3, root) = (guest.allocate(), guest.allocate())
    guest[gcr3 + 8] = root | 1
    guest.map(root, 0x7000, to: guest.data(0))
    for page in 0..<3 { guest[guest.data(UInt64(page))] = UInt64(page) }
    let domain = try fixture.makeNested(gcr3: gcr3)
    try fixture.attach(domain)
    #expect(fixture.port.load(0x7000, pasid: one).1 == 0)
    #expect(fixture.port.load(guest.data(2)).1 == 2)
    guest.map(root, 0x7000, to: guest.data(1))
    #expect(fixture.port.load(0x7000, pasid: one).1 == 0)
    let spare = IOVA(0x9000_0000)
    try fixture.parent.map(
      spare, to: guest.physicalAddress(of: guest.data(0)), length: 0x1000, permissions: .read)
    #expect(fixture.port.load(0x7000, pasid: one).1 == 0)
    fixture.parent.unmap(spare, length: 0x1000)
    #expect(fixture.port.load(0x7000, pasid: one).1 == 1)
    guest.map(root, 0x7000, to: guest.data(2))
    #expect(fixture.port.load(0x7000, pasid: one).1 == 1)
    let again = try fixture.makeNested(gcr3: gcr3)
    try fixture.attach(again)
    #expect(fixture.port.load(0x7000, pasid: one).1 == 2)
    fixture.driver.block(AMDViDriverFixture.device, pasid: nil)
    #expect(fixture.unit.cachedTranslations == 0)
  }

  @Test("the entry of a nested device follows the levels and the dirty tracking of the parent")
  func parents() throws {
    let fixture = try AMDViDriverFixture()
    let parent = try fixture.makeDomain([.nestParent, .dirtyTracking])
    let virtual = try fixture.driver.makeVirtualIOMMU(
      type: 1, on: parent, for: AMDViDriverFixture.device, host: RecordingVIOMMUHost(), data: nil)
    try fixture.attach(try fixture.makeNested([0, 0, 0, 0], on: virtual))
    let page = fixture.guest.physicalAddress(of: fixture.guest.data(1))
    try parent.map(IOVA(1 << 45), to: page, length: 0x1000, permissions: [.read, .write])
    #expect(try fixture.entry().hostLevels == 4)
    #expect(fixture.port.store(3, to: 1 << 45) == .completed)
    try parent.setDirtyTracking(true)
    #expect(try fixture.entry().hostFlags == 3)
    #expect(try fixture.entry().isGuestValid)
  }

  @Test(
    "a nested domain and its parent replace each other, and a nested domain cannot replace a guest table with PASIDs"
  )
  func replacement() throws {
    let fixture = try AMDViDriverFixture()
    let nested = try fixture.makeNested(gcr3: fixture.guest.allocate())
    try fixture.attach(fixture.parent)
    try fixture.attach(nested)
    #expect(try fixture.entry().isGuestValid)
    try fixture.attach(fixture.parent)
    #expect(try !fixture.entry().isGuestValid)
    let guest = try fixture.makeDomain(.pasid)
    try fixture.attach(guest)
    #expect(
      failure { () throws(Errno) in try fixture.attach(nested) } == .invalidArgument)
    #expect(try fixture.entry().usesGuestTableWithoutPASID)
    let plain = try AMDViDriverFixture(pasidBits: 0)
    try plain.attach(try plain.makeDomain(.pasid))
    try plain.attach(try plain.makeNested(gcr3: plain.guest.allocate()))
  }

  @Test("destroyed domains release their tables and domain IDs")
  func resources() throws {
    let fixture = try AMDViDriverFixture()
    func use() throws {
      let guest = try fixture.makeDomain(.pasid)
      try fixture.attach(guest)
      try fixture.attach(try fixture.makeDomain([]))
      let nested = try fixture.makeNested(gcr3: fixture.guest.data(0))
      try fixture.attach(nested)
      fixture.driver.block(AMDViDriverFixture.device, pasid: nil)
    }
    try use()
    let tables = fixture.memory.tablePagesInUse
    let id = try fixture.driver.platform.domainIDs.allocate()
    fixture.driver.platform.domainIDs.release(id)
    for _ in 0..<10 { try use() }
    #expect(fixture.memory.tablePagesInUse == tables)
    #expect(try fixture.driver.platform.domainIDs.allocate() == id)
  }
}
