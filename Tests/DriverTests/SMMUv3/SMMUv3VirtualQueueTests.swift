// SPDX-License-Identifier: Apache-2.0

import CUAPI
import Glibc
import Host
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

/// A guest of the SMMUv3 of a Tegra241 with its page of virtual queue registers. The test polls the
/// queues itself until it calls `start()`.
private struct VirtualQueueFixture {
  static let pageLength = UInt64(VirtualQueueRegisters.pageLength)

  let smmu: SMMUv3Fixture
  let virtual: Tegra241VirtualIOMMU
  let host: RecordingVIOMMUHost
  let pages: SharedRegisters

  init(
    _ smmu: SMMUv3Fixture? = nil, parent: SMMUv3PagingDomain? = nil
  ) throws {
    let smmu = try smmu ?? SMMUv3Fixture(.tegra241, hasATS: true)
    self.smmu = smmu
    host = RecordingVIOMMUHost()
    host.openEventQueues()
    virtual = try Self.makeVirtual(on: parent ?? smmu.parent, smmu.driver, host)
    let file = OwnedDescriptor(
      owning: try MemoryFile.create(name: "vintf", length: Self.pageLength))
    pages = try SharedRegisters(of: file, at: 0, length: Self.pageLength)
  }

  static func makeVirtual(
    on parent: SMMUv3PagingDomain, _ driver: SMMUv3Driver, _ host: RecordingVIOMMUHost
  ) throws(Errno) -> Tegra241VirtualIOMMU {
    let data = TestMemory()
    let made = try driver.makeVirtualIOMMU(
      type: 2, on: parent, for: SMMUv3Fixture.stream, host: host,
      data: UserData(type: 2, address: data.address, length: 16, memory: InProcessClient()))
    guard let made = made as? Tegra241VirtualIOMMU else { throw .invalidArgument }
    return made
  }

  /// Shares the registers, so that the polling thread of the interface reads them.
  func start() throws { try host.share(pages) }

  /// Polls the queues once in this thread.
  @discardableResult
  func poll() -> PollingThread.Outcome { virtual.interface.poll() }

  func registers(_ queue: Int = 0) -> VirtualQueueRegisters {
    VirtualQueueRegisters(of: queue, in: pages)
  }

  func makeQueue(
    _ index: UInt32 = 0, at ring: UInt64, length: UInt64 = 4096
  ) throws(Errno) -> any HardwareQueue {
    try makeQueue(index, at: smmu.guest.physicalAddress(of: ring), length: length)
  }

  func makeQueue(
    _ index: UInt32, at physical: PhysicalAddress, length: UInt64
  ) throws(Errno) -> any HardwareQueue {
    try virtual.makeHardwareQueue(
      HardwareQueueRequest(
        type: 1, index: index, iova: IOVA(0), length: length, physical: physical))
  }

  func store(_ command: SMMUv3Command, _ index: UInt64, of ring: UInt64) {
    smmu.guest[ring + index * 16] = command.words[0]
    smmu.guest[ring + index * 16 + 8] = command.words[1]
  }
}

@Suite("SMMUv3: virtual queues of a Tegra241")
struct SMMUv3VirtualQueueTests {
  private let fixture: VirtualQueueFixture
  private let guest: SMMUv3GuestMemory
  private let ring: UInt64

  init() throws {
    fixture = try VirtualQueueFixture()
    guest = fixture.smmu.guest
    ring = guest.allocate()
  }

  // MARK: Arguments

  @Test("hardware information of type 3 exists only for a unit with virtual queues")
  func virtualQueueInformation() throws {
    let driver = fixture.smmu.driver
    let info = try #require(try driver.hardwareInfo(of: SMMUv3Fixture.stream, type: 3))
    #expect(info.type == 3 && info.bytes == [0, 0, 0, 0, 1, 1, 4, 0])
    #expect(try driver.hardwareInfo(of: SMMUv3Fixture.stream, type: 0)?.type == 2)
    let plain = try SMMUv3Fixture()
    #expect(throws: Errno.notSupported) {
      try plain.driver.hardwareInfo(of: SMMUv3Fixture.stream, type: 3)
    }
    #expect(!plain.driver.supportsVirtualIOMMU(type: 2, for: SMMUv3Fixture.stream))
    var oneStage = SMMUv3Unit.Configuration.tegra241
    oneStage.capabilities.stage1 = false
    let memory = try PhysicalMemory(.test)
    let driverOfOne = try SMMUv3Driver(
      unit: SMMUv3Unit(oneStage, memory: memory), memory: memory)
    #expect(!driverOfOne.supportsVirtualIOMMU(type: 2, for: SMMUv3Fixture.stream))
  }

  @Test("a guest gets the lowest free virtual interface except that of the host")
  func virtualInterfaces() throws {
    var configuration = SMMUv3Unit.Configuration.tegra241
    configuration.virtualQueues.interfaceBits = 1
    let smmu = try SMMUv3Fixture(configuration)
    func make() throws(Errno) -> Tegra241VirtualIOMMU {
      try VirtualQueueFixture.makeVirtual(on: smmu.parent, smmu.driver, RecordingVIOMMUHost())
    }
    var only: Tegra241VirtualIOMMU? = try make()
    #expect(throws: Errno.noSpace) { try make() }
    only = nil
    only = try make()
    _ = only
    // A vIOMMU whose register page cannot be allocated releases its interface.
    only = nil
    let crowded = RecordingVIOMMUHost()
    crowded.refuseRegions()
    #expect(throws: Errno.noMemory) {
      try VirtualQueueFixture.makeVirtual(on: smmu.parent, smmu.driver, crowded)
    }
    only = try make()
  }

  @Test("a virtual stream ID has 20 bits, and their number is that of the SID_MATCH registers")
  func streamNames() throws {
    func add(_ name: UInt64) throws(Errno) {
      try fixture.virtual.addDevice(RequesterID.test(2), virtualID: name)
    }
    #expect(throws: Errno.invalidArgument) { try add(1 << 20) }
    for name in 0..<16 as Range<UInt64> { try add(0xffff0 + name) }
    #expect(throws: Errno.noSpace) { try add(1) }
    #expect(throws: Errno.invalidArgument) { try add(1 << 20) }
    fixture.virtual.removeDevice(RequesterID.test(2), virtualID: 0xffff3)
    try add(1)
    #expect(throws: Errno.noSpace) { try add(2) }
  }

  @Test(
    "queues are made in ascending order, with a power of two of commands at a multiple of their length"
  )
  func virtualQueueRules() throws {
    func fails(_ error: Errno, _ index: UInt32, _ offset: UInt64, _ length: UInt64) {
      #expect(throws: error) {
        _ = try fixture.makeQueue(index, at: ring + offset, length: length)
      }
    }
    fails(.invalidArgument, 2, 0, 4096)
    fails(.ioError, 1, 0, 48)
    for length in [16, 48, 1 << 20] as [UInt64] { fails(.invalidArgument, 0, 0, length) }
    fails(.invalidArgument, 0, 32, 64)
    fails(.invalidArgument, 0, 8, 32)
    #expect(throws: Errno.invalidArgument) {
      _ = try fixture.makeQueue(0, at: PhysicalAddress(1 << 48), length: 4096)
    }
    let first = try fixture.makeQueue(0, at: ring, length: 32)
    fails(.fileExists, 0, 1, 48)
    let second = try fixture.makeQueue(1, at: ring, length: 4096)
    #expect(first.dependsOn == nil && second.dependsOn === first)
    second.destroy()
    let again = try fixture.makeQueue(1, at: ring, length: 64)
    again.destroy()
    first.destroy()
    fails(.ioError, 1, 0, 64)
    #expect(!fixture.virtual.supportsHardwareQueue(type: 2))
  }

  // MARK: Execution

  @Test("a poll executes at most 128 commands and at most those of the ring")
  func pollLimit() throws {
    let queue = try fixture.makeQueue(at: ring)
    fixture.setPages()
    let registers = fixture.registers()
    for index in 0..<256 as Range<UInt64> { fixture.store(.sync, index, of: ring) }
    #expect(fixture.poll() == .unchanged)
    registers[.producer] = 0xfff0_0000 | 0x1ff
    registers[.configuration] = 1
    #expect(fixture.poll() == .changed)
    #expect(registers[.status] == 1 && registers[.consumer] == 128)
    for expected in [256, 384, 511] as [UInt32] {
      #expect(fixture.poll() == .changed)
      #expect(registers[.consumer] == expected)
    }
    #expect(fixture.poll() == .unchanged)
    queue.destroy()
    #expect(registers[.status] == 0)
    #expect(fixture.poll() == .finished)
  }

  @Test("a ring without memory is an abort error, and acknowledging it retries")
  func abortedFetch() throws {
    let queue = try fixture.makeQueue(0, at: PhysicalAddress(1 << 44), length: 4096)
    fixture.setPages()
    let registers = fixture.registers()
    registers[.configuration] = 1
    registers[.producer] = 3
    for round in 1...4 as ClosedRange<UInt32> {
      #expect(fixture.poll() == .changed)
      #expect(registers[.consumer] == 2 << 24 && registers[.error] == round & 1)
      #expect(fixture.poll() == .unchanged)
      registers[.acknowledgement] = registers[.error]
    }
    let event: [UInt8] = [1] + Array(repeating: 0, count: 15)
    #expect(fixture.host.consumeEvents(of: 2) == Array(repeating: event, count: 4))
    queue.destroy()
  }

  @Test("an acknowledgement without an error stops the queue until the next acknowledgement")
  func strayAcknowledgement() throws {
    let queue = try fixture.makeQueue(at: ring)
    fixture.setPages()
    let registers = fixture.registers()
    fixture.store(.sync, 0, of: ring)
    registers[.configuration] = 1
    registers[.acknowledgement] = 1
    registers[.producer] = 1
    fixture.poll()
    #expect(registers[.consumer] == 0 && registers[.error] == 0)
    registers[.acknowledgement] = 0
    fixture.poll()
    #expect(registers[.consumer] == 1)
    queue.destroy()
  }

  @Test("a guest's commands invalidate with the guest's own VMID")
  func guestsOfOneUnit() throws {
    let smmu = fixture.smmu
    let made = try smmu.driver.makePagingDomain(.nestParent, for: SMMUv3Fixture.stream)
    let otherParent = try #require(made as? SMMUv3PagingDomain)
    let other = try VirtualQueueFixture(smmu, parent: otherParent)
    let descriptors = guest.makeSpace(at: 0x5000).descriptors
    smmu.addVirtualDevice()
    try smmu.attach(try smmu.makeStage1(descriptors))
    let command = SMMUv3Command.tlbi(.tlbiASID, asid: 1, vmid: smmu.parent.tag)
    fixture.store(command, 0, of: ring)
    for (fixture, isOwn) in [(other, false), (fixture, true)] {
      let queue = try fixture.makeQueue(at: ring)
      fixture.setPages()
      _ = smmu.port.load(0x5000)
      #expect(smmu.unit.cachedTranslations == 1)
      fixture.registers()[.configuration] = 1
      fixture.registers()[.producer] = 1
      fixture.poll()
      #expect(fixture.registers()[.consumer] == 1)
      #expect(smmu.unit.cachedTranslations == (isOwn ? 0 : 1))
      queue.destroy()
    }
  }

  @Test(
    "random values in the ring and in the registers cause no undefined state",
    arguments: [1, 2, 3, 4] as [UInt64])
  func randomRings(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    try fixture.virtual.addDevice(SMMUv3Fixture.stream, virtualID: 7)
    var queues = [try fixture.makeQueue(at: ring, length: 64)]
    queues.append(try fixture.makeQueue(1, at: ring + 2048, length: 2048))
    fixture.setPages()
    let operations: [UInt64] = [0x11, 0x12, 0x40, 0x46]
    for _ in 0..<5_000 {
      let command = random.next()
      guest[ring + random.next() % 256 * 16] =
        random.next() % 4 == 0
        ? command : command & 0xf7_03ff_f000 | operations[Int(random.next() % 4)]
      guest[ring + random.next() % 512 * 8] = random.next() & random.next()
      let registers = fixture.registers(Int(random.next() % 2))
      let register = try #require(
        VirtualQueueRegisters.Register.allCases.randomElement(using: &random))
      registers[register] = UInt32(truncatingIfNeeded: random.next() & random.next())
      if random.next() % 4 == 0 { registers[.configuration] = 1 }
      if random.next() % 4 == 0 { registers[.acknowledgement] = registers[.error] }
      fixture.poll()
      #expect(registers[.status] & ~1 == 0 && registers[.error] & ~1 == 0, "seed \(seed)")
      #expect(registers[.status] == 0 || registers[.consumer] >> 24 <= 4, "seed \(seed)")
    }
    for queue in queues.reversed() { queue.destroy() }
  }

  // MARK: The polling thread

  @Test("the polling thread runs as long as the interface has a queue")
  func threadOfAnInterface() throws {
    let interface = fixture.virtual.interface
    try fixture.start()
    #expect(!interface.isPolled)
    let registers = fixture.registers()
    for _ in 0..<3 {
      let queue = try fixture.makeQueue(at: ring)
      fixture.store(.sync, 0, of: ring)
      registers[.configuration] = 1
      registers[.producer] = 1
      #expect(eventually { registers[.consumer] == 1 })
      #expect(interface.isPolled)
      queue.destroy()
      #expect(eventually { !interface.isPolled })
    }
  }

  @Test("no command of a queue is executed after the queue is destroyed")
  func destroyedQueuesExecuteNothing() throws {
    let smmu = fixture.smmu
    let descriptors = guest.makeSpace(at: 0x5000).descriptors
    smmu.addVirtualDevice()
    try smmu.attach(try smmu.makeStage1(descriptors))
    for index in 0..<256 as Range<UInt64> {
      fixture.store(.tlbi(.tlbiASID, asid: 1), index, of: ring)
    }
    try fixture.start()
    let registers = fixture.registers()
    let isOver = Atomic(false)
    let hasEnded = ThreadSemaphore()
    startThread(named: "guest") {
      var producer: UInt32 = 0
      while !isOver.load(ordering: .relaxed) {
        producer = producer &+ 61
        registers[.producer] = producer
        registers[.configuration] = producer % 7 == 0 ? 0 : 1
        registers[.consumer] = producer &* 17
      }
      hasEnded.signal()
    }
    for _ in 0..<300 {
      let queue = try fixture.makeQueue(at: ring)
      usleep(200)
      queue.destroy()
      _ = smmu.port.load(0x5000)
      usleep(100)
      #expect(smmu.unit.cachedTranslations == 1)
    }
    isOver.store(true, ordering: .relaxed)
    hasEnded.wait()
  }
}

extension VirtualQueueFixture {
  /// Sets the registers without a polling thread. A queue that is made later starts the thread.
  fileprivate func setPages() { virtual.interface.setPages(pages) }
}
