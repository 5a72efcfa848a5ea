import Synchronization
import SystemPackage
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite("SMMUv3: DMA of a guest's device")
struct SMMUv3FlowTests {
  private let machine: SMMUv3Machine
  private let guest: SMMUv3Guest
  private let root: UInt64
  private let page: UInt64
  private let descriptors: UInt64
  private static let here: UInt64 = 0x7654_3210_0000
  private static let virtual = StreamID(rawValue: UInt32(SMMUv3Machine.virtualStream))

  init() throws {
    machine = try SMMUv3Machine()
    guest = machine.guest
    machine.knowDevice()
    machine.host.openQueue()
    (root, page, descriptors) = guest.makeSpace(at: Self.here)
    guest[page] = 0x1111
    try machine.attach(try machine.stage1(descriptors))
  }

  private func pasid(_ value: UInt32) -> PASID { PASID(rawValue: value) }

  /// What the device finds, or the event that it makes.
  private func load(_ address: UInt64 = here, pasid: PASID? = nil) -> UInt64? {
    let (outcome, value) = machine.port.load(address, pasid: pasid)
    return outcome == .completed ? value : nil
  }

  private func event(_ address: UInt64, pasid: PASID? = nil) -> SMMUv3Event? {
    machine.port.load(address, pasid: pasid).0.event
  }

  private func store(_ address: UInt64 = here, pasid: PASID? = nil) -> SMMUv3Event? {
    machine.port.store(0x2222, to: address, pasid: pasid).event
  }

  @Test("what was read of the configuration while an invalidation came in between is not kept")
  func configurationRaces() {
    let request = DMARequest(
      requester: SMMUv3Machine.stream, .init(), iova: IOVA(Self.here), count: 8, writes: false)
    let unit = machine.unit
    func cached() -> [Int] {
      unit.state.withLock { [$0.streamTableEntries.count, $0.addressSpaces.count] }
    }
    _ = unit.fillAddressSpace(request, .max)
    #expect(cached() == [0, 0])
    _ = unit.fillAddressSpace(request, unit.state.withLock { $0.generation })
    #expect(cached() == [1, 1])
  }

  @Test("both stages, and what either refuses")
  func faults() throws {
    #expect(load() == 0x1111)
    #expect(store() == nil)
    #expect(guest[page] == 0x2222)
    #expect(event(Self.here + 0x1000) == .stage1(.translation))
    #expect(event(1 << 48) == .stage1(.translation))
    #expect(event(~0xfff) == .stage1(.translation))
    guest.map(root, Self.here + 0x1000, to: page, SMMUv3Guest.leaf | SMMUv3Guest.readOnly)
    #expect(load(Self.here + 0x1000) == 0x2222)
    #expect(store(Self.here + 0x1000) == .stage1(.permission))
    guest.map(root, Self.here + 0x2000, to: page, SMMUv3Guest.leaf & ~(1 << 10))
    #expect(event(Self.here + 0x2000) == .stage1(.access))
    guest.map(root, Self.here + 0x3000, to: 1 << 41)
    #expect(event(Self.here + 0x3000) == .stage1(.addressSize))
    guest.map(root, Self.here + 0x4000, to: SMMUv3Guest.base - 0x1000)
    #expect(
      event(Self.here + 0x4000) == .stage2(.translation, .input, SMMUv3Guest.base - 0x1000))
    guest[guest.entry(root, 0, level: 0)] = 0x5000 | 3
    #expect(event(0x8_1234) == .stage2(.translation, .tableWalk, 0x5000))
    let told = machine.host.consumeEvents()
    // Those of stage 2 are not the guest's.
    #expect(told.map(\.kind) == [0x10, 0x10, 0x10, 0x13, 0x12, 0x11])
    #expect(told.allSatisfy { UInt64($0.stream.rawValue) == SMMUv3Machine.virtualStream })
  }

  @Test("a page that stage 1 makes read-only faults from the cache until it is invalidated")
  func cachedPermissions() {
    guest.map(root, Self.here, to: page, SMMUv3Guest.leaf | SMMUv3Guest.readOnly)
    #expect(load() == 0x1111)
    guest.map(root, Self.here, to: page)
    #expect(store() == .stage1(.permission))
    machine.send([.tlbi(.tlbiASID, asid: 1)])
    #expect(store() == nil)
  }

  @Test("hardware keeps access flag and dirty state where the descriptor says so")
  func flags() {
    var descriptor = ContextDescriptor.test(root, asid: 1)
    descriptor.updatesAccessFlag = true
    descriptor.updatesDirtyState = true
    guest.store(descriptor, at: descriptors)
    machine.send([.invalidateContext(Self.virtual, substream: PASID(rawValue: 0), isLeaf: true)])
    // AF clear, DBM set, AP read-only: writable and clean.
    let flags = SMMUv3Guest.leaf & ~(1 << 10) | 1 << 51 | SMMUv3Guest.readOnly
    guest.map(root, Self.here, to: page, flags)
    let entry = guest.entry(root, Self.here, level: 3)
    #expect(load() == 0x1111)
    #expect(guest[entry] == page | flags | 2 | 1 << 10)
    #expect(store() == nil)
    #expect(guest[entry] == (page | flags | 2 | 1 << 10) & ~SMMUv3Guest.readOnly)
  }

  @Test("the upper table, and addresses whose top byte is ignored")
  func halves() {
    var descriptor = ContextDescriptor.test(root, asid: 1)
    let upper = guest.take()
    descriptor.disablesUpperWalks = false
    descriptor.words[21, 16] = 25
    descriptor.words[23, 22] = 2
    descriptor.words.setAddress(upper, 183, 132)
    descriptor.words[bit: 38] = true
    guest.store(descriptor, at: descriptors)
    machine.send([.invalidateContext(Self.virtual, substream: PASID(rawValue: 0), isLeaf: true)])
    // 39 bits: the walk starts at level 1.
    let address: UInt64 = 0xffff_ffff_8040_3000
    let middle = guest.take()
    let lower = guest.take()
    guest[upper + (address >> 30 & 511) * 8] = middle | 3
    guest[middle + (address >> 21 & 511) * 8] = lower | 3
    guest[lower + (address >> 12 & 511) * 8] = page | SMMUv3Guest.leaf | 2
    #expect(load(address) == 0x1111)
    #expect(event(0xffff_ff7f_8040_3000) == .stage1(.translation))
    // TBI0: the lower half only.
    #expect(load(0xab << 56 | Self.here) == 0x1111)
    #expect(event(0xab << 56 | address & ~(0xff << 56)) == .stage1(.translation))
    let told = machine.host.consumeEvents()
    #expect(told.last?.words[2] == 0xab << 56 | address & ~(0xff << 56))
  }

  @Test("granules of 16 and 64 KiB", arguments: [(14, 2, 2, 36), (16, 1, 1, 42)])
  func granules(_ shift: Int, _ field: UInt64, _ startLevel: Int, _ bits: Int) throws {
    var descriptor = ContextDescriptor.test(0, asid: 1)
    descriptor.granuleShift = shift
    descriptor.inputBits = bits
    var table = guest.take(16)
    descriptor.table = PhysicalAddress(table)
    #expect(descriptor.words[7, 6] == field)
    guest.store(descriptor, at: descriptors)
    machine.send([.invalidateContext(Self.virtual, substream: PASID(rawValue: 0), isLeaf: true)])
    let address = UInt64(0x3_2109_8765_4321) & (1 << UInt64(bits) - 1)
    let size = UInt64(1) << UInt64(shift)
    let target = guest.take(16)
    guest[target + address & (size - 1) & ~7] = 0x3333
    let stride = shift - 3
    for level in (3 - (bits - 1 - shift) / stride)..<3 {
      let next = guest.take(16)
      let index = address >> UInt64(shift + stride * (3 - level)) & (1 << UInt64(stride) - 1)
      guest[table + index * 8] = next | 3
      table = next
    }
    guest[table + (address >> UInt64(shift) & (1 << UInt64(stride) - 1)) * 8] =
      target | SMMUv3Guest.leaf | 2
    #expect(load(address & ~7) == 0x3333)
  }

  @Test("substreams: beyond the table, none, and none with one")
  func substreams() throws {
    guest.store(.test(root, asid: 2), at: descriptors + 3 * 64)
    #expect(load(pasid: pasid(3)) == 0x1111)
    #expect(event(Self.here, pasid: pasid(64)) == SMMUv3Event(.badSubstreamID))
    #expect(event(Self.here, pasid: pasid(0)) == SMMUv3Event(.streamDisabled))
    #expect(event(Self.here, pasid: pasid(4)) == SMMUv3Event(.badContext))
    try machine.attach(try machine.stage1(descriptors, plain: 0))
    #expect(event(Self.here) == SMMUv3Event(.streamDisabled))
    #expect(load(pasid: pasid(3)) == 0x1111)
    try machine.attach(try machine.stage1(descriptors, plain: 1))
    #expect(load(page) == 0x1111)
    #expect(
      event(SMMUv3Guest.base - 8)
        == .stage2(.translation, .input, SMMUv3Guest.base - 8))
    #expect(event(1 << 50) == .stage1(.addressSize))
    try machine.attach(try machine.stage1(descriptors, bits: 0))
    #expect(event(Self.here, pasid: pasid(3)) == SMMUv3Event(.badSubstreamID))
    #expect(load() == 0x1111)
    let told = machine.host.consumeEvents().map(\.kind)
    #expect(told == [0x08, 0x06, 0x0a, 0x06, 0x11, 0x08])
  }

  @Test("descriptors where the guest has no memory are faults of stage 2")
  func unreachableDescriptors() throws {
    try machine.attach(try machine.stage1(0x1000))
    #expect(event(Self.here) == .stage2(.translation, .contextFetch, 0x1000))
    try machine.attach(try machine.stage1(0x8000, bits: 11, format: 2))
    #expect(
      event(Self.here, pasid: pasid(1024)) == .stage2(.translation, .contextFetch, 0x8008))
    #expect(machine.host.consumeEvents().isEmpty)
  }

  @Test("what the guest's own stage 2 says changes for all that is cached of the guest")
  func parentChanges() throws {
    let first = try machine.memory.allocateTable()
    let second = try machine.memory.allocateTable()
    machine.memory.storeEntry(0x6666, at: first)
    machine.memory.storeEntry(0x7777, at: second)
    let place: UInt64 = 0x5000_0000
    try machine.parent.map(IOVA(place), to: first, length: 4096, permissions: [.read, .write])
    guest.map(root, Self.here, to: place)
    #expect(load() == 0x6666)
    #expect(machine.parent.unmap(IOVA(place), length: 4096) == 4096)
    #expect(event(Self.here) == .stage2(.translation, .input, place))
    try machine.parent.map(IOVA(place), to: second, length: 4096, permissions: .read)
    #expect(load() == 0x7777)
    #expect(store() == .stage2(.permission, .input, place))
    // A table in memory that cannot be written: access flags cannot be kept.
    var descriptor = ContextDescriptor.test(root, asid: 1)
    descriptor.updatesAccessFlag = true
    guest.store(descriptor, at: descriptors)
    machine.send([.invalidateContext(Self.virtual, substream: PASID(rawValue: 0), isLeaf: true)])
    machine.memory.storeEntry(page | SMMUv3Guest.leaf & ~(1 << 10) | 2, at: second)
    guest[guest.entry(root, 0x1000, level: 2)] = place | 3
    let denied = try #require(event(0))
    #expect(denied == .stage2(.permission, .tableWalk, place))
    #expect(!denied.isTableRead)
  }

  @Test("a name that the guest changes is the old one for what is attached")
  func names() throws {
    machine.host.set(nil, SMMUv3Machine.virtualStream)
    machine.host.set(SMMUv3Machine.stream, 0x99)
    _ = event(0)
    #expect(machine.host.consumeEvents().first?.stream == Self.virtual)
    try machine.attach(try machine.stage1(descriptors))
    _ = event(0)
    #expect(machine.host.consumeEvents().first?.stream.rawValue == 0x99)
  }

  @Test("kernel-managed stage 1: with and without PASID, and dirty pages")
  func kernelTables() throws {
    machine.driver.block(SMMUv3Machine.stream, pasid: nil)
    #expect(event(Self.here)?.kind == .aborted)
    let made = try machine.driver.makePagingDomain(
      [.pasid, .dirtyTracking], for: SMMUv3Machine.stream)
    let domain = try #require(made as? SMMUv3PagingDomain)
    try domain.map(
      IOVA(0x10_0000), to: guest.physical, length: 0x40_0000, permissions: [.read, .write])
    try machine.attach(domain)
    try machine.attach(domain, pasid: pasid(9))
    let offset = page - SMMUv3Guest.base
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
    // What is mapped anew counts as written: the core clears it when tracking starts.
    #expect(!(try dirty().isEmpty))
    #expect(try dirty() == [])
    #expect(store(0x10_0000 + offset, pasid: pasid(9)) == nil)
    #expect(try dirty().count == 1)
    #expect(try dirty() == [])
    #expect(store(0x10_0000 + offset) == nil)
    #expect(try dirty().count == 1)
    #expect(domain.unmap(IOVA(0x10_0000), length: 0x40_0000) == 0x40_0000)
    #expect(event(0x10_0000 + offset) == .stage1(.translation))
    machine.driver.block(SMMUv3Machine.stream, pasid: nil)
    #expect(event(0x10_0000) == SMMUv3Event(.streamDisabled))
    machine.driver.block(SMMUv3Machine.stream, pasid: pasid(9))
    #expect(event(0x10_0000)?.kind == .aborted)
  }
}
