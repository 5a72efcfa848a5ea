// SPDX-License-Identifier: Apache-2.0

// Queue files and fault logs.

import CUAPI
import Synchronization
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMU
@testable import IOMMUFD

extension QueueFile<RecordLog> {
  fileprivate func add(_ record: [UInt8]) -> Bool { queue.withContents { $0.append(record) } }
}

@Suite struct QueueFileTests {
  private let client = InProcessClient()

  private func log(_ capacity: Int) -> EventQueue<RecordLog> {
    EventQueue(RecordLog(capacity: capacity))
  }

  private func read(
    _ queue: QueueFile<RecordLog>, _ count: Int, into memory: TestMemory, at offset: Int = 0
  ) -> Result<Int, Errno> {
    let buffer = UserBuffer(
      memory: client, address: memory.address + UInt64(offset), count: count)
    do throws(Errno) {
      return .success(try queue.read(into: buffer, at: 0))
    } catch {
      return .failure(error)
    }
  }

  @Test("a read returns whole records")
  func wholeUnits() {
    let queue = QueueFile(log(3), .init(recordSize: 4))
    let memory = TestMemory()
    #expect(read(queue, 4, into: memory) == .success(0))
    #expect(read(queue, 0, into: memory) == .success(0))
    #expect(queue.readiness() == [])
    #expect(queue.add([1, 1, 1, 1]))
    #expect(queue.add([2, 2, 2, 2, 2, 2, 2, 2]))
    #expect(queue.add([3, 3, 3, 3]))
    #expect(!queue.add([4, 4, 4, 4]), "full")
    #expect(queue.readiness() == .readable)
    #expect(read(queue, 6, into: memory) == .failure(.illegalSeek))
    #expect(read(queue, 0, into: memory) == .failure(.invalidArgument), "the first does not fit")
    #expect(read(queue, 8, into: memory) == .success(4), "the second does not fit")
    #expect(read(queue, 4, into: memory) == .failure(.invalidArgument))
    #expect(read(queue, 64, into: memory) == .success(12))
    #expect(Array(memory.bytes.prefix(12)) == [2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3])
    #expect(queue.readiness() == [])
  }

  @Test("a read returns the records that were stored and keeps the others in order")
  func badMemory() {
    let queue = QueueFile(log(9), .init(recordSize: 4))
    let memory = TestMemory()
    for value in 1...3 as ClosedRange<UInt8> {
      #expect(queue.add([value, value, value, value]))
    }
    let end = memory.byteCount
    #expect(read(queue, 12, into: memory, at: end - 2) == .failure(.badAddress))
    // The records that were stored are removed, and the others stay in order.
    #expect(read(queue, 12, into: memory, at: end - 8) == .success(8))
    #expect(read(queue, 12, into: memory) == .success(4))
    #expect(memory.bytes[0] == 3)
  }

  @Test("a read that is shorter than the minimum is EINVAL")
  func minimumRead() {
    let queue = QueueFile(log(1), .init(minimumRead: 8))
    #expect(read(queue, 7, into: TestMemory()) == .failure(.invalidArgument))
    #expect(read(queue, 9, into: TestMemory()) == .success(0))
  }

  @Test("a readiness observer is called until it is removed")
  func observer() {
    let queue = QueueFile(log(4), .init())
    let wakes = Atomic(0)
    queue.setReadinessObserver { wakes.add(1, ordering: .relaxed) }
    _ = queue.add([1])
    queue.queue.notify()
    #expect(wakes.load(ordering: .relaxed) == 1)
    queue.setReadinessObserver(nil)
    queue.queue.notify()
    #expect(wakes.load(ordering: .relaxed) == 1)
  }

  @Test("a queue refuses writes and ioctls")
  func notWritable() {
    let queue = QueueFile(log(4), .init())
    let buffer = UserBuffer(memory: client, address: TestMemory().address, count: 8)
    #expect(throws: Errno.invalidArgument) { try queue.write(from: buffer, at: 0) }
    #expect(throws: Errno.inappropriateIOCTLForDevice) {
      try queue.ioctl(Ioctl.ioasAlloc.number.rawValue, argument: 0, client: client)
    }
  }
}

@Suite struct FaultLogTests {
  private func open(
    _ file: ControlFile, device: UInt32 = 0, flags: UInt32 = 0
  ) -> Result<Int32, Errno> {
    var command = iommufd_sim_fault_log_alloc(size: 16, flags: flags, dev_id: device, out_fd: 77)
    if let error = file.call(.simFaultLogAlloc, &command) { return .failure(error) }
    return .success(Int32(bitPattern: command.out_fd))
  }

  private func fault(
    of requester: RequesterID = RequesterID(bus: 0, device: 0, function: 0), iova: UInt64 = 0,
    pasid: PASID? = nil, access: Permissions = .read
  ) -> FaultRecord {
    FaultRecord(
      requester: requester, pasid: pasid, iova: IOVA(iova), access: access,
      reason: .vtd(.readDenied), isSuppressed: false)
  }

  private func device(_ number: UInt8, _ driver: RecordingDriver) -> PhysicalDevice {
    PhysicalDevice(
      name: "device", requesterID: RequesterID(bus: 3, device: number, function: 0),
      driver: driver, group: IOMMUGroup(id: Int(number)))
  }

  private func records(_ file: ControlFile, _ number: Int32) throws -> [iommufd_sim_fault] {
    let memory = TestMemory(pages: 32)
    let log = try #require(file.client.file(number))
    let count = try log.read(
      into: UserBuffer(
        memory: file.client, address: memory.address, count: memory.byteCount), at: 0)
    return (0..<count / 64).map { memory.load(iommufd_sim_fault.self, at: $0 * 64) }
  }

  @Test("a fault log has the faults of its device, and a device that is not bound has none")
  func perDevice() throws {
    let file = try ControlFile()
    defer { file.close() }
    let driver = RecordingDriver()
    let context = try file.context
    let physical = (0..<2).map { device($0, driver) }
    let router = RequesterRouter(physical)
    driver.setFaultSink { router.report($0) }
    let devices = try physical.map { try context.bind($0) }
    let all = try open(file).get()
    let one = try open(file, device: devices[1].id.rawValue).get()
    for (index, device) in physical.enumerated() {
      driver.fault(fault(of: device.requesterID, iova: UInt64(index + 1) << 12))
    }
    driver.fault(fault(of: RequesterID(bus: 9, device: 9, function: 0)))
    #expect(try records(file, all).map(\.iova) == [0x1000, 0x2000])
    #expect(try records(file, one).map(\.iova) == [0x2000])
    #expect(try records(file, all).isEmpty)
    file.client.close(all)
    driver.fault(fault(of: physical[1].requesterID))
    #expect(try records(file, one).count == 1)
    devices.forEach { $0.unbind() }
    driver.fault(fault(of: physical[1].requesterID))
    #expect(try records(file, one).isEmpty, "a device that is not bound has no log")
    file.client.close(one)
  }

  @Test("a record has the fields of the fault")
  func record() throws {
    let file = try ControlFile()
    defer { file.close() }
    let number = try open(file).get()
    let requester = RequesterID(bus: 3, device: 1, function: 2)
    try file.context.faultLogs.record(
      fault(of: requester, iova: 0x1234_5678, pasid: PASID(rawValue: 5), access: .write),
      of: ObjectID(4))
    let record = try #require(try records(file, number).first)
    #expect(record.type == 1)
    #expect(record.reason == 0x86)
    #expect(record.flags == 2 | 4)
    #expect(record.dev_id == 4)
    #expect(record.requester == 0x030a)
    #expect(record.pasid == 5)
    #expect(record.iova == 0x1234_5678)
    #expect(record.raw.0 == 0x1234_5000)
    #expect(record.raw.1 & 0xffff == 0x030a)
    #expect(record.raw.2 == 0 && record.raw.3 == 0)
  }

  @Test(
    "a full log keeps the oldest records, and the first record after a loss has the overflow flag")
  func overflow() throws {
    let file = try ControlFile()
    defer { file.close() }
    let context = try file.context
    let number = try open(file).get()
    for index in 0..<FaultLogFiles.depth + 5 {
      context.faultLogs.record(fault(iova: UInt64(index)), of: ObjectID(1))
    }
    let first = try records(file, number)
    #expect(first.count == FaultLogFiles.depth)
    #expect(first.last?.iova == UInt64(FaultLogFiles.depth - 1))
    #expect(first.allSatisfy { $0.flags & IOMMUFD_SIM_FAULT_OVERFLOW.rawValue == 0 })
    context.faultLogs.record(fault(iova: 7), of: ObjectID(1))
    context.faultLogs.record(fault(iova: 8), of: ObjectID(1))
    let second = try records(file, number)
    #expect(second.map(\.iova) == [7, 8])
    #expect(second.map { $0.flags & IOMMUFD_SIM_FAULT_OVERFLOW.rawValue != 0 } == [true, false])
  }

  @Test("flags and device of SIM_FAULT_LOG_ALLOC are checked")
  func arguments() throws {
    let file = try ControlFile()
    defer { file.close() }
    #expect(open(file, device: 1) == .failure(.noSuchFileOrDirectory))
    let ioas = try file.makeIOAS()
    #expect(open(file, device: ioas) == .failure(.noSuchFileOrDirectory))
    #expect(open(file, device: 9, flags: 1) == .failure(.notSupported))
  }

  @Test("a log whose descriptor cannot be returned is removed and its descriptor closed")
  func failedInstall() throws {
    let file = try ControlFile()
    defer { file.close() }
    let memory = TestMemory()
    memory.store(iommufd_sim_fault_log_alloc(size: 16, flags: 0, dev_id: 0, out_fd: 77))
    memory.protect(.read)
    for _ in 0...FaultLogFiles.capacity {
      #expect(file.call(.simFaultLogAlloc, memory.address) == .failure(.badAddress))
    }
    file.client.limitFiles(to: 1)
    #expect(open(file) == .failure(.tooManyOpenFiles))
    file.client.limitFiles(to: 2)
    #expect(throws: Never.self) { try open(file).get() }
  }

  @Test("the number of fault logs is limited")
  func capacity() throws {
    let file = try ControlFile()
    defer { file.close() }
    let numbers = try (0..<FaultLogFiles.capacity).map { _ in try open(file).get() }
    #expect(open(file) == .failure(.noMemory))
    file.client.close(numbers[0])
    #expect(throws: Never.self) { try open(file).get() }
  }

  @Test("a log can be read after its iommufd is closed and has no further record")
  func outlivesItsFile() throws {
    let file = try ControlFile()
    let number = try open(file).get()
    try file.context.faultLogs.record(fault(), of: ObjectID(1))
    file.close()
    #expect(try records(file, number).count == 1)
    #expect(try records(file, number).isEmpty)
    file.client.close(number)
  }
}
