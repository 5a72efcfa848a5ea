import Host
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

/// An SMMUv3 with its driver, and a guest whose memory is 8 MiB of the machine's.
struct SMMUv3Machine {
  static let stream = RequesterID.test(1)
  static let virtualStream: UInt64 = 0x4321

  let memory: PhysicalMemory
  let unit: SMMUv3Unit
  let driver: SMMUv3Driver
  let parent: SMMUv3PagingDomain
  let virtual: any VirtualIOMMU
  let host = VirtualHost()
  let guest: SMMUv3Guest
  let port: DMAPort
  private let detaching: Detaching

  init(
    _ configuration: SMMUv3Unit.Configuration = .init(), pasidBits: Int = 16,
    hasATS: Bool = false, canStall: Bool = false
  ) throws {
    memory = try PhysicalMemory(.test)
    unit = SMMUv3Unit(configuration, memory: memory)
    driver = try SMMUv3Driver(unit: unit, memory: memory)
    detaching = Detaching(driver)
    var properties = DeviceProperties()
    properties.pasidBits = pasidBits
    properties.hasATS = hasATS
    properties.canStall = canStall
    try driver.probe(Self.stream, properties)
    let domain = try driver.makePagingDomain(.nestParent, for: Self.stream)
    parent = try #require(domain as? SMMUv3PagingDomain)
    virtual = try driver.makeVirtualIOMMU(
      type: 1, on: parent, for: Self.stream, host: host, data: nil)
    guest = try SMMUv3Guest(memory: memory, parent: parent)
    port = DMAPort(requester: Self.stream, smmuv3: unit, canStall: canStall)
  }

  /// The guest's part of a stream table entry.
  func nested(_ first: UInt64, _ second: UInt64 = 0) throws(Errno) -> any NestedDomain {
    let words = TestMemory()
    words.store(first.littleEndian)
    words.store(second.littleEndian, at: 8)
    return try virtual.makeNestedDomain(
      for: Self.stream, flags: [],
      data: UserData(type: 2, address: words.address, length: 16, memory: InProcessClient()))
  }

  /// The descriptors of a guest's table, and what is without PASID.
  func stage1(
    _ descriptors: UInt64, bits: UInt64 = 6, format: UInt64 = 0, plain: UInt64 = 2
  ) throws(Errno) -> any NestedDomain {
    try nested(1 | 5 << 1 | format << 4 | descriptors | bits << 59, plain | 1 << 27)
  }

  func attach(_ domain: any Domain, pasid: PASID? = nil) throws(Errno) {
    try driver.attach(domain, to: Self.stream, pasid: pasid)
  }

  func knowDevice() {
    host.set(Self.stream, Self.virtualStream)
  }

  /// - Returns: how many were handled, and the error.
  @discardableResult
  func send(_ commands: [SMMUv3Command]) -> (handled: Int, error: Errno?) {
    let words = TestMemory(pages: 1 + commands.count / 256)
    for (index, command) in commands.enumerated() {
      words.store(command.words[0].littleEndian, at: index * 16)
      words.store(command.words[1].littleEndian, at: index * 16 + 8)
    }
    var handled = 0
    do throws(Errno) {
      try virtual.invalidate(
        UserDataArray(
          type: 1, address: words.address, entryLength: 16, count: commands.count,
          memory: InProcessClient()),
        handled: &handled)
      return (handled, nil)
    } catch {
      return (handled, error)
    }
  }
}

/// What iommufd does for a virtual unit: names, and a queue for events if asked to.
final class VirtualHost: VirtualIOMMUHost {
  private struct State {
    var names: [UInt64: RequesterID] = [:]
    /// By type.
    var events: [UInt32: [[UInt8]]]?
    var share: RegionSharing?
    var refusesRegions = false
  }

  private let state = Mutex(State())

  func set(_ device: RequesterID?, _ name: UInt64) { state.withLock { $0.names[name] = device } }
  func openQueue() { state.withLock { $0.events = [:] } }

  func consumeEvents(of type: UInt32) -> [[UInt8]] {
    state.withLock { $0.events?.removeValue(forKey: type) ?? [] }
  }

  func consumeEvents() -> [SMMUv3EventRecord] {
    consumeEvents(of: 1).map { bytes in
      SMMUv3EventRecord(
        words: bytes.withUnsafeBytes { $0.loadUnaligned(as: InlineArray<4, UInt64>.self) })
    }
  }

  func addRegion(
    holding contents: [UInt8], length: UInt64, share: RegionSharing?
  ) throws(Errno) -> UInt64 {
    try state.withLock { state throws(Errno) in
      if state.refusesRegions { throw .noMemory }
      state.share = share
      return 4096
    }
  }
  func removeRegion(at offset: UInt64) {}
  func refuseRegions() { state.withLock { $0.refusesRegions = true } }

  /// As if a client had mapped the region.
  func share(_ pages: SharedRegisters) throws(Errno) { try state.withLock { $0.share }?(pages) }

  func device(virtualID: UInt64) -> RequesterID? { state.withLock { $0.names[virtualID] } }
  func virtualID(of device: RequesterID) -> UInt64? {
    state.withLock { $0.names.first { $0.value == device }?.key }
  }
  func report(_ event: [UInt8], type: UInt32) throws(Errno) {
    let isTaken = state.withLock { state in
      state.events?[type, default: []].append(event)
      return state.events != nil
    }
    if !isTaken { throw .notSupported }
  }
}

/// A guest's memory, with page tables of 4 KiB granules and 48 bits in it.
final class SMMUv3Guest {
  static let base: UInt64 = 0x4000_0000
  static let size: UInt64 = 8 << 20
  let physical: PhysicalAddress
  private let memory: PhysicalMemory
  private var next: UInt64 = 0

  static let leaf: UInt64 = 1 << 0 | 1 << 6 | 3 << 8 | 1 << 10 | 1 << 11
  static let readOnly: UInt64 = 1 << 7

  init(memory: PhysicalMemory, parent: SMMUv3PagingDomain) throws {
    self.memory = memory
    physical = try memory.allocateTable(sizeShift: 23)
    try parent.map(
      IOVA(Self.base), to: physical, length: Self.size, permissions: [.read, .write])
  }

  func place(_ address: UInt64) -> PhysicalAddress {
    PhysicalAddress(physical.rawValue + address - Self.base)
  }

  subscript(address: UInt64) -> UInt64 {
    get { memory.word(at: place(address)) ?? 0 }
    set { memory.storeEntry(newValue, at: place(address)) }
  }

  /// Zeroed pages at a multiple of their size.
  func take(_ pages: UInt64 = 1) -> UInt64 {
    next = (next + pages - 1) / pages * pages
    defer { next += pages }
    precondition((next + pages) << 12 <= Self.size)
    return Self.base + next << 12
  }

  func entry(_ root: UInt64, _ address: UInt64, level: Int) -> UInt64 {
    var table = root
    for upper in 0..<level {
      let place = table + (address >> UInt64(39 - 9 * upper) & 511) * 8
      if self[place] & 1 == 0 { self[place] = take() | 3 }
      table = self[place] & 0xffff_ffff_f000
    }
    return table + (address >> UInt64(39 - 9 * level) & 511) * 8
  }

  func map(_ root: UInt64, _ address: UInt64, to page: UInt64, _ flags: UInt64 = leaf) {
    self[entry(root, address, level: 3)] = page | flags | 2
  }

  func unmap(_ root: UInt64, _ address: UInt64) { self[entry(root, address, level: 3)] = 0 }

  func store(_ descriptor: ContextDescriptor, at address: UInt64) {
    for index in 0..<8 { self[address + UInt64(index) * 8] = descriptor.words[index] }
  }

  /// A table with one page, and a descriptor of it.
  func makeSpace(at address: UInt64) -> (root: UInt64, page: UInt64, descriptors: UInt64) {
    let (root, page, descriptors) = (take(), take(), take())
    map(root, address, to: page)
    store(.test(root, asid: 1), at: descriptors)
    return (root, page, descriptors)
  }
}

extension ContextDescriptor {
  /// 48 bits, 4 KiB; the upper half disabled; faults abort and are recorded.
  static func test(_ root: UInt64, asid: UInt16) -> ContextDescriptor {
    var descriptor = ContextDescriptor()
    descriptor.inputBits = 48
    descriptor.granuleShift = 12
    descriptor.disablesUpperWalks = true
    descriptor.isValid = true
    descriptor.outputSizeField = 2
    descriptor.usesAArch64Tables = true
    descriptor.recordsFaults = true
    descriptor.abortsFaults = true
    descriptor.isPrivate = true
    descriptor.asid = asid
    descriptor.table = PhysicalAddress(root)
    descriptor.memoryAttributes = 0xff
    return descriptor
  }
}

extension DMAOutcome {
  var event: SMMUv3Event? {
    if case .fault(let record) = self, case .smmuv3(let event) = record.reason { return event }
    return nil
  }
}
