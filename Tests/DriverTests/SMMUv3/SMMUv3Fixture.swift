// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport

@testable import IOMMU
@testable import IOMMUFD

/// An SMMUv3 with its driver, and a guest on a nesting parent that maps 8 MiB of physical memory.
struct SMMUv3Fixture {
  static let stream = RequesterID.test(1)
  static let virtualStream: UInt64 = 0x4321

  let memory: PhysicalMemory
  let unit: SMMUv3Unit
  let driver: SMMUv3Driver
  let parent: SMMUv3PagingDomain
  let viommu: any VirtualIOMMU
  let host = RecordingVIOMMUHost()
  let guest: SMMUv3GuestMemory
  let port: DMAPort
  private let blocker: DeviceBlocker

  init(
    _ configuration: SMMUv3Unit.Configuration = .init(), pasidBits: Int = 16,
    hasATS: Bool = false, canStall: Bool = false
  ) throws {
    memory = try PhysicalMemory(.test)
    unit = SMMUv3Unit(configuration, memory: memory)
    driver = try SMMUv3Driver(unit: unit, memory: memory)
    blocker = DeviceBlocker(driver)
    var properties = DeviceProperties()
    properties.pasidBits = pasidBits
    properties.hasATS = hasATS
    properties.canStall = canStall
    try driver.probe(Self.stream, properties)
    let domain = try driver.makePagingDomain(.nestParent, for: Self.stream)
    guard let parent = domain as? SMMUv3PagingDomain else { throw Errno.invalidArgument }
    self.parent = parent
    viommu = try driver.makeVirtualIOMMU(
      type: 1, on: parent, for: Self.stream, host: host, data: nil)
    guest = try SMMUv3GuestMemory(memory: memory, parent: parent)
    port = DMAPort(requester: Self.stream, smmuv3: unit, canStall: canStall)
  }

  /// Makes a nested domain from the two words of a stream table entry that a guest writes.
  func makeNested(_ first: UInt64, _ second: UInt64 = 0) throws(Errno) -> any NestedDomain {
    let words = TestMemory()
    words.store(first.littleEndian)
    words.store(second.littleEndian, at: 8)
    return try viommu.makeNestedDomain(
      for: Self.stream, flags: [],
      data: UserData(type: 2, address: words.address, length: 16, memory: InProcessClient()))
  }

  /// Makes a nested domain whose stream table entry has stage 1.
  /// - Parameters:
  ///   - descriptors: The address of the context descriptor table (S1ContextPtr).
  ///   - bits: log2 of the number of context descriptors (S1CDMax).
  ///   - format: S1Fmt.
  ///   - plain: S1DSS and further fields of the second word.
  func makeStage1(
    _ descriptors: UInt64, bits: UInt64 = 6, format: UInt64 = 0, plain: UInt64 = 2
  ) throws(Errno) -> any NestedDomain {
    try makeNested(1 | 5 << 1 | format << 4 | descriptors | bits << 59, plain | 1 << 27)
  }

  func attach(_ domain: any Domain, pasid: PASID? = nil) throws(Errno) {
    try driver.attach(domain, to: Self.stream, pasid: pasid)
  }

  /// Gives the device a vDEVICE with the ID `virtualStream`.
  func addVirtualDevice() {
    host.setDevice(Self.stream, virtualID: Self.virtualStream)
  }

  /// Invalidates by commands of the guest.
  /// - Returns: The number of commands that took effect, and the error.
  @discardableResult
  func send(_ commands: [SMMUv3Command]) -> (handled: Int, error: Errno?) {
    let words = TestMemory(pages: 1 + commands.count / 256)
    for (index, command) in commands.enumerated() {
      words.store(command.words[0].littleEndian, at: index * 16)
      words.store(command.words[1].littleEndian, at: index * 16 + 8)
    }
    var handled = 0
    do throws(Errno) {
      try viommu.invalidate(
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

/// Guest memory of 8 MiB with page tables of 48 bits and 4 KiB granules.
final class SMMUv3GuestMemory {
  /// The guest physical address of the memory.
  static let base: UInt64 = 0x4000_0000
  static let size: UInt64 = 8 << 20
  /// A valid leaf: AP[1] (unprivileged access), inner shareable, AF, nG.
  static let leaf: UInt64 = 1 << 0 | 1 << 6 | 3 << 8 | 1 << 10 | 1 << 11
  /// AP[2].
  static let readOnly: UInt64 = 1 << 7

  let physical: PhysicalAddress
  private let memory: PhysicalMemory
  private var next: UInt64 = 0

  init(memory: PhysicalMemory, parent: SMMUv3PagingDomain) throws {
    self.memory = memory
    physical = try memory.allocateTable(sizeShift: 23)
    try parent.map(
      IOVA(Self.base), to: physical, length: Self.size, permissions: [.read, .write])
  }

  func physicalAddress(of address: UInt64) -> PhysicalAddress {
    PhysicalAddress(physical.rawValue + address - Self.base)
  }

  /// The word at a guest physical address.
  subscript(address: UInt64) -> UInt64 {
    get { memory.word(at: physicalAddress(of: address)) ?? 0 }
    set { memory.storeEntry(newValue, at: physicalAddress(of: address)) }
  }

  /// Returns the address of pages of zeros, which is a multiple of their size.
  func allocate(_ pages: UInt64 = 1) -> UInt64 {
    next = (next + pages - 1) / pages * pages
    defer { next += pages }
    precondition((next + pages) << 12 <= Self.size)
    return Self.base + next << 12
  }

  /// Returns the address of the entry that translates `address`, and allocates missing tables
  /// above it.
  func entry(_ root: UInt64, _ address: UInt64, level: Int) -> UInt64 {
    var table = root
    for upper in 0..<level {
      let place = table + (address >> UInt64(39 - 9 * upper) & 511) * 8
      if self[place] & 1 == 0 { self[place] = allocate() | 3 }
      table = self[place] & 0xffff_ffff_f000
    }
    return table + (address >> UInt64(39 - 9 * level) & 511) * 8
  }

  func map(_ root: UInt64, _ address: UInt64, to page: UInt64, _ flags: UInt64 = leaf) {
    self[entry(root, address, level: 3)] = page | flags | 2
  }

  func unmap(_ root: UInt64, _ address: UInt64) {
    self[entry(root, address, level: 3)] = 0
  }

  func store(_ descriptor: ContextDescriptor, at address: UInt64) {
    for index in 0..<8 { self[address + UInt64(index) * 8] = descriptor.words[index] }
  }

  /// Makes a page table that maps one page at `address`, and a context descriptor of the table.
  func makeSpace(
    at address: UInt64
  ) -> (root: UInt64, page: UInt64, descriptors: UInt64) {
    let (root, page, descriptors) = (allocate(), allocate(), allocate())
    map(root, address, to: page)
    store(.test(root, asid: 1), at: descriptors)
    return (root, page, descriptors)
  }
}
