// SPDX-License-Identifier: Apache-2.0

import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite("SMMUv3: DMA through the driver's domains")
struct SMMUv3DMATests {
  private let fixture: SMMUv3Fixture
  private let guest: SMMUv3GuestMemory
  private let root: UInt64
  private let page: UInt64
  private let descriptors: UInt64
  private static let here: UInt64 = 0x7654_3210_0000
  private static let virtual = StreamID(rawValue: UInt32(SMMUv3Fixture.virtualStream))

  init() throws {
    fixture = try SMMUv3Fixture()
    guest = fixture.guest
    fixture.addVirtualDevice()
    fixture.host.openEventQueues()
    (root, page, descriptors) = guest.makeSpace(at: Self.here)
    guest[page] = 0x1111
    try fixture.attach(try fixture.makeStage1(descriptors))
  }

  private func pasid(_ value: UInt32) -> PASID { PASID(rawValue: value) }

  /// Returns the word at an address, or `nil` when the transaction does not complete.
  private func load(_ address: UInt64 = here, pasid: PASID? = nil) -> UInt64? {
    let (outcome, value) = fixture.port.load(address, pasid: pasid)
    return outcome == .completed ? value : nil
  }

  @Test("a transaction after a walk takes the general path, and one after a hit the fast path")
  func pathAfterAWalk() {
    #expect(fixture.port.inFlight.expectsHit)
    #expect(load() == 0x1111)
    #expect(!fixture.port.inFlight.expectsHit)
    #expect(load() == 0x1111)
    #expect(fixture.port.inFlight.expectsHit)
  }

  private func event(_ address: UInt64, pasid: PASID? = nil) -> SMMUv3Event? {
    fixture.port.load(address, pasid: pasid).0.event
  }

  private func store(_ address: UInt64 = here, pasid: PASID? = nil) -> SMMUv3Event? {
    fixture.port.store(0x2222, to: address, pasid: pasid).event
  }

  @Test("configuration that was read before an invalidation is not cached after it")
  func configurationRaces() {
    let request = DMARequest(
      requester: SMMUv3Fixture.stream, .init(), iova: IOVA(Self.here), count: 8, writes: false)
    let unit = fixture.unit
    func cached() -> [Int] {
      unit.state.withLock { [$0.streamTableEntries.count, $0.addressSpaces.count] }
    }
    _ = unit.fillAddressSpace(request, .max)
    #expect(cached() == [0, 0])
    _ = unit.fillAddressSpace(request, unit.state.withLock { $0.generation })
    #expect(cached() == [1, 1])
  }

  @Test("each fault of stage 1 and stage 2 is an event, and only those of stage 1 go to the guest")
  func faults() throws {
    #expect(load() == 0x1111)
    #expect(store() == nil)
    #expect(guest[page] == 0x2222)
    #expect(event(Self.here + 0x1000) == .stage1(.translation))
    #expect(event(1 << 48) == .stage1(.translation))
    #expect(event(~0xfff) == .stage1(.translation))
    guest.map(
      root, Self.here + 0x1000, to: page, SMMUv3GuestMemory.leaf | SMMUv3GuestMemory.readOnly)
    #expect(load(Self.here + 0x1000) == 0x2222)
    #expect(store(Self.here + 0x1000) == .stage1(.permission))
    guest.map(root, Self.here + 0x2000, to: page, SMMUv3GuestMemory.leaf & ~(1 << 10))
    #expect(event(Self.here + 0x2000) == .stage1(.access))
    guest.map(root, Self.here + 0x3000, to: 1 << 41)
    #expect(event(Self.here + 0x3000) == .stage1(.addressSize))
    guest.map(root, Self.here + 0x4000, to: SMMUv3GuestMemory.base - 0x1000)
    #expect(
      event(Self.here + 0x4000) == .stage2(.translation, .input, SMMUv3GuestMemory.base - 0x1000))
    guest[guest.entry(root, 0, level: 0)] = 0x5000 | 3
    #expect(event(0x8_1234) == .stage2(.translation, .tableWalk, 0x5000))
    let told = fixture.host.consumeEvents()
    // Events of stage 2 do not go to the guest.
    #expect(told.map(\.kind) == [0x10, 0x10, 0x10, 0x13, 0x12, 0x11])
    #expect(told.allSatisfy { UInt64($0.stream.rawValue) == SMMUv3Fixture.virtualStream })
  }

  @Test("a page that is cached read-only denies writes until it is invalidated")
  func cachedPermissions() {
    guest.map(root, Self.here, to: page, SMMUv3GuestMemory.leaf | SMMUv3GuestMemory.readOnly)
    #expect(load() == 0x1111)
    guest.map(root, Self.here, to: page)
    #expect(store() == .stage1(.permission))
    fixture.send([.tlbi(.tlbiASID, asid: 1)])
    #expect(store() == nil)
  }

  @Test(
    "hardware updates the access flag and the dirty state when the context descriptor enables it")
  func flags() {
    var descriptor = ContextDescriptor.test(root, asid: 1)
    descriptor.updatesAccessFlag = true
    descriptor.updatesDirtyState = true
    guest.store(descriptor, at: descriptors)
    fixture.send([.invalidateContext(Self.virtual, substream: PASID(rawValue: 0), isLeaf: true)])
    // AF clear, DBM set, AP read-only: writable and clean.
    let flags = SMMUv3GuestMemory.leaf & ~(1 << 10) | 1 << 51 | SMMUv3GuestMemory.readOnly
    guest.map(root, Self.here, to: page, flags)
    let entry = guest.entry(root, Self.here, level: 3)
    #expect(load() == 0x1111)
    #expect(guest[entry] == page | flags | 2 | 1 << 10)
    #expect(store() == nil)
    #expect(guest[entry] == (page | flags | 2 | 1 << 10) & ~SMMUv3GuestMemory.readOnly)
  }

  @Test("the upper half has its own table, and TBI ignores the top byte")
  func halves() {
    var descriptor = ContextDescriptor.test(root, asid: 1)
    let upper = guest.allocate()
    descriptor.disablesUpperWalks = false
    descriptor.words[21, 16] = 25
    descriptor.words[23, 22] = 2
    descriptor.words.setAddress(upper, 183, 132)
    descriptor.words[bit: 38] = true
    guest.store(descriptor, at: descriptors)
    fixture.send([.invalidateContext(Self.virtual, substream: PASID(rawValue: 0), isLeaf: true)])
    // 39 bits: the walk starts at level 1.
    let address: UInt64 = 0xffff_ffff_8040_3000
    let middle = guest.allocate()
    let lower = guest.allocate()
    guest[upper + (address >> 30 & 511) * 8] = middle | 3
    guest[middle + (address >> 21 & 511) * 8] = lower | 3
    guest[lower + (address >> 12 & 511) * 8] = page | SMMUv3GuestMemory.leaf | 2
    #expect(load(address) == 0x1111)
    #expect(event(0xffff_ff7f_8040_3000) == .stage1(.translation))
    // TBI0: the lower half only.
    #expect(load(0xab << 56 | Self.here) == 0x1111)
    #expect(event(0xab << 56 | address & ~(0xff << 56)) == .stage1(.translation))
    let told = fixture.host.consumeEvents()
    #expect(told.last?.words[2] == 0xab << 56 | address & ~(0xff << 56))
  }

  @Test("stage 1 supports granules of 16 and 64 KiB", arguments: [(14, 2, 2, 36), (16, 1, 1, 42)])
  func granules(_ shift: Int, _ field: UInt64, _ startLevel: Int, _ bits: Int) throws {
    var descriptor = ContextDescriptor.test(0, asid: 1)
    descriptor.granuleShift = shift
    descriptor.inputBits = bits
    var table = guest.allocate(16)
    descriptor.table = PhysicalAddress(table)
    #expect(descriptor.words[7, 6] == field)
    guest.store(descriptor, at: descriptors)
    fixture.send([.invalidateContext(Self.virtual, substream: PASID(rawValue: 0), isLeaf: true)])
    let address = UInt64(0x3_2109_8765_4321) & (1 << UInt64(bits) - 1)
    let size = UInt64(1) << UInt64(shift)
    let target = guest.allocate(16)
    guest[target + address & (size - 1) & ~7] = 0x3333
    let stride = shift - 3
    for level in (3 - (bits - 1 - shift) / stride)..<3 {
      let next = guest.allocate(16)
      let index = address >> UInt64(shift + stride * (3 - level)) & (1 << UInt64(stride) - 1)
      guest[table + index * 8] = next | 3
      table = next
    }
    guest[table + (address >> UInt64(shift) & (1 << UInt64(stride) - 1)) * 8] =
      target | SMMUv3GuestMemory.leaf | 2
    #expect(load(address & ~7) == 0x3333)
  }

  @Test("S1CDMax and S1DSS decide the context descriptor of a transaction")
  func substreams() throws {
    guest.store(.test(root, asid: 2), at: descriptors + 3 * 64)
    #expect(load(pasid: pasid(3)) == 0x1111)
    #expect(event(Self.here, pasid: pasid(64)) == SMMUv3Event(.badSubstreamID))
    #expect(event(Self.here, pasid: pasid(0)) == SMMUv3Event(.streamDisabled))
    #expect(event(Self.here, pasid: pasid(4)) == SMMUv3Event(.badContext))
    try fixture.attach(try fixture.makeStage1(descriptors, plain: 0))
    #expect(event(Self.here) == SMMUv3Event(.streamDisabled))
    #expect(load(pasid: pasid(3)) == 0x1111)
    try fixture.attach(try fixture.makeStage1(descriptors, plain: 1))
    #expect(load(page) == 0x1111)
    #expect(
      event(SMMUv3GuestMemory.base - 8)
        == .stage2(.translation, .input, SMMUv3GuestMemory.base - 8))
    #expect(event(1 << 50) == .stage1(.addressSize))
    try fixture.attach(try fixture.makeStage1(descriptors, bits: 0))
    #expect(event(Self.here, pasid: pasid(3)) == SMMUv3Event(.badSubstreamID))
    #expect(load() == 0x1111)
    let told = fixture.host.consumeEvents().map(\.kind)
    #expect(told == [0x08, 0x06, 0x0a, 0x06, 0x11, 0x08])
  }

  @Test("a context descriptor outside the guest's memory is a stage 2 fault")
  func unreachableDescriptors() throws {
    try fixture.attach(try fixture.makeStage1(0x1000))
    #expect(event(Self.here) == .stage2(.translation, .contextFetch, 0x1000))
    try fixture.attach(try fixture.makeStage1(0x8000, bits: 11, format: 2))
    #expect(
      event(Self.here, pasid: pasid(1024)) == .stage2(.translation, .contextFetch, 0x8008))
    #expect(fixture.host.consumeEvents().isEmpty)
  }

  @Test("a change of the parent invalidates everything that is cached for the guest")
  func parentChanges() throws {
    let first = try fixture.memory.allocateTable()
    let second = try fixture.memory.allocateTable()
    fixture.memory.storeEntry(0x6666, at: first)
    fixture.memory.storeEntry(0x7777, at: second)
    let place: UInt64 = 0x5000_0000
    try fixture.parent.map(IOVA(place), to: first, length: 4096, permissions: [.read, .write])
    guest.map(root, Self.here, to: place)
    #expect(load() == 0x6666)
    #expect(fixture.parent.unmap(IOVA(place), length: 4096) == 4096)
    #expect(event(Self.here) == .stage2(.translation, .input, place))
    try fixture.parent.map(IOVA(place), to: second, length: 4096, permissions: .read)
    #expect(load() == 0x7777)
    #expect(store() == .stage2(.permission, .input, place))
    // The table is in memory that cannot be written, so the access flag cannot be set.
    var descriptor = ContextDescriptor.test(root, asid: 1)
    descriptor.updatesAccessFlag = true
    guest.store(descriptor, at: descriptors)
    fixture.send([.invalidateContext(Self.virtual, substream: PASID(rawValue: 0), isLeaf: true)])
    fixture.memory.storeEntry(page | SMMUv3GuestMemory.leaf & ~(1 << 10) | 2, at: second)
    guest[guest.entry(root, 0x1000, level: 2)] = place | 3
    let denied = try #require(event(0))
    #expect(denied == .stage2(.permission, .tableWalk, place))
    #expect(!denied.isTableRead)
  }

  @Test("an attached device keeps its virtual stream ID when the vDEVICE changes")
  func names() throws {
    fixture.host.setDevice(nil, virtualID: SMMUv3Fixture.virtualStream)
    fixture.host.setDevice(SMMUv3Fixture.stream, virtualID: 0x99)
    _ = event(0)
    #expect(fixture.host.consumeEvents().first?.stream == Self.virtual)
    try fixture.attach(try fixture.makeStage1(descriptors))
    _ = event(0)
    #expect(fixture.host.consumeEvents().first?.stream.rawValue == 0x99)
  }

  @Test("stage 1 domains of the driver translate with and without PASID and track dirty pages")
  func kernelTables() throws {
    fixture.driver.block(SMMUv3Fixture.stream, pasid: nil)
    #expect(event(Self.here)?.kind == .aborted)
    let made = try fixture.driver.makePagingDomain(
      [.pasid, .dirtyTracking], for: SMMUv3Fixture.stream)
    let domain = try #require(made as? SMMUv3PagingDomain)
    try domain.map(
      IOVA(0x10_0000), to: guest.physical, length: 0x40_0000, permissions: [.read, .write])
    try fixture.attach(domain)
    try fixture.attach(domain, pasid: pasid(9))
    let offset = page - SMMUv3GuestMemory.base
    #expect(load(0x10_0000 + offset) == 0x1111)
    #expect(load(0x10_0000 + offset, pasid: pasid(9)) == 0x1111)
    #expect(event(0x10_0000, pasid: pasid(8)) == SMMUv3Event(.badContext))
    func dirty() throws -> [UInt64] {
      var pages: [UInt64] = []
      try domain.readDirty(IOVA(0x10_0000)...IOVA(0x4f_ffff), clearing: true) { iova, _ in
        pages.append(iova.rawValue)
      }
      return pages
    }
    // A new mapping is dirty. iommufd clears its dirty state when tracking starts.
    #expect(!(try dirty().isEmpty))
    #expect(try dirty() == [])
    #expect(store(0x10_0000 + offset, pasid: pasid(9)) == nil)
    #expect(try dirty().count == 1)
    #expect(try dirty() == [])
    #expect(store(0x10_0000 + offset) == nil)
    #expect(try dirty().count == 1)
    #expect(domain.unmap(IOVA(0x10_0000), length: 0x40_0000) == 0x40_0000)
    #expect(event(0x10_0000 + offset) == .stage1(.translation))
    fixture.driver.block(SMMUv3Fixture.stream, pasid: nil)
    #expect(event(0x10_0000) == SMMUv3Event(.streamDisabled))
    fixture.driver.block(SMMUv3Fixture.stream, pasid: pasid(9))
    #expect(event(0x10_0000)?.kind == .aborted)
  }
}
