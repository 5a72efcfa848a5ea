import CUAPI
import Glibc
import IOMMU
import Machine
import PCI
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import VFIO

@Suite("The built-in machine: DMA through VT-d, and its faults")
struct VTdFlowTests {
  private let iova: UInt64 = 0x10_0000
  private let rig: Rig

  init() throws { rig = try Rig(own: .builtIn) }

  /// Starts a copy and waits for its end, which is there when the write returns.
  private func run(_ device: DeviceClient, _ iova: UInt64, _ command: UInt32) throws {
    try device.write(0, 0, UInt32(truncatingIfNeeded: iova))
    try device.write(0, 4, UInt32(truncatingIfNeeded: iova >> 32))
    try device.write(0, 8, command)
    #expect(try device.read(0, 8, as: UInt32.self) & 1 == 0)
  }

  private static let toDevice: UInt32 = 3
  private static let toMemory: UInt32 = 1

  /// SIM_FAULT_LOG_ALLOC of every device.
  private func openLog() throws -> DeviceClient {
    var command = iommufd_sim_fault_log_alloc()
    command.size = UInt32(MemoryLayout<iommufd_sim_fault_log_alloc>.size)
    let failure = DeviceClient(rig.client, rig.iommufd).call(.simFaultLogAlloc, &command)
    try #require(failure == nil)
    return DeviceClient(rig.client, Int32(bitPattern: command.out_fd))
  }

  private func faults(_ log: DeviceClient) throws -> [iommufd_sim_fault] {
    let file = try #require(rig.client.file(log.number))
    let memory = TestMemory()
    let size = MemoryLayout<iommufd_sim_fault>.size
    let buffer = UserBuffer(memory: rig.client, address: memory.address, count: 16 * size)
    let count = try file.read(into: buffer, at: 0) / size
    return (0..<count).map { memory.load(at: $0 * size) }
  }

  @Test("copies arrive, and what is unmapped faults with every byte in place")
  func flow() throws {
    let log = try openLog()
    let device = try rig.bound()
    let ioas = rig.makeIOAS()
    let source = TestMemory()
    let target = TestMemory()
    source.bytes.copyBytes(from: (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 31) })
    #expect(rig.map(source, on: ioas, at: iova) == nil)
    #expect(device.attach(ioas) == nil)
    #expect(rig.map(target, on: ioas, at: iova + 0x1000) == nil)
    try device.setConfig(4, UInt16(6))

    try run(device, iova, Self.toDevice)
    try run(device, iova + 0x1000, Self.toMemory)
    #expect(target.bytes.elementsEqual(source.bytes))
    #expect(try faults(log).isEmpty)

    #expect(rig.unmap(4096, on: ioas, at: iova + 0x1000) == nil)
    target.bytes.copyBytes(from: repeatElement(UInt8(0xee), count: 4096))
    try run(device, iova + 0x1000, Self.toMemory)
    #expect(target.bytes.allSatisfy { $0 == 0xee })

    let fault = try #require(try faults(log).first)
    #expect(fault.type == IOMMUFD_SIM_FAULT_TYPE_DMA.rawValue)
    #expect(fault.iova & ~0xfff == iova + 0x1000)
    #expect(fault.flags == IOMMUFD_SIM_FAULT_WRITE.rawValue)
    #expect(fault.requester == 0x0100)
    #expect(fault.dev_id == 1)
  }

  @Test("a copy over the end of a mapping moves no byte")
  func partial() throws {
    let log = try openLog()
    let device = try rig.bound()
    let ioas = rig.makeIOAS()
    let memory = TestMemory()
    memory.bytes.copyBytes(from: repeatElement(UInt8(0x55), count: 4096))
    #expect(device.attach(ioas) == nil)
    #expect(rig.map(memory, on: ioas, at: iova) == nil)
    try device.setConfig(4, UInt16(6))
    try run(device, iova + 0x800, Self.toMemory)
    #expect(memory.bytes.allSatisfy { $0 == 0x55 })
    #expect(try faults(log).map(\.iova) == [iova + 0x1000])
  }

  @Test("no request, no fault: without bus mastering the unit sees nothing")
  func busMaster() throws {
    let log = try openLog()
    let device = try rig.bound()
    #expect(device.attach(rig.makeIOAS()) == nil)
    try run(device, iova, Self.toMemory)
    #expect(try faults(log).isEmpty)
    try device.setConfig(4, UInt16(6))
    try run(device, iova, Self.toMemory)
    #expect(try faults(log).count == 1)
  }

  @Test("a device without a table is blocked")
  func blocked() throws {
    let log = try openLog()
    let device = try rig.bound()
    try device.setConfig(4, UInt16(6))
    try run(device, iova, Self.toMemory)
    #expect(try faults(log).count == 1)
    let ioas = rig.makeIOAS()
    let memory = TestMemory()
    memory.bytes.copyBytes(from: repeatElement(UInt8(0x55), count: 4096))
    #expect(rig.map(memory, on: ioas, at: iova) == nil)
    #expect(device.attach(ioas) == nil)
    #expect(device.detach() == nil)
    try run(device, iova, Self.toMemory)
    #expect(try faults(log).count == 1)
    #expect(memory.bytes.allSatisfy { $0 == 0x55 })
  }

  @Test("two devices, two spaces: the same address is different memory")
  func isolation() throws {
    let devices = [try rig.bound(0), try rig.bound(1)]
    let memories = [TestMemory(), TestMemory()]
    for (index, device) in devices.enumerated() {
      let ioas = rig.makeIOAS()
      memories[index].bytes.copyBytes(from: repeatElement(UInt8(index + 1), count: 4096))
      #expect(rig.map(memories[index], on: ioas, at: iova) == nil)
      #expect(device.attach(ioas) == nil)
      try device.setConfig(4, UInt16(6))
    }
    try run(devices[0], iova, Self.toDevice)
    try run(devices[1], iova, Self.toMemory)
    #expect(memories[0].bytes.allSatisfy { $0 == 1 })
    #expect(memories[1].bytes.allSatisfy { $0 == 0 })
  }

  @Test("functions of one group share the first one's table")
  func group() throws {
    let devices = [try rig.bound(2), try rig.bound(3)]
    let ioas = rig.makeIOAS()
    let memory = TestMemory()
    memory.bytes.copyBytes(from: repeatElement(UInt8(0x42), count: 4096))
    #expect(rig.map(memory, on: ioas, at: iova) == nil)
    #expect(devices[0].attach(ioas) == nil)
    try devices[1].setConfig(4, UInt16(6))
    try run(devices[1], iova, Self.toDevice)
    memory.bytes.copyBytes(from: repeatElement(UInt8(0), count: 4096))
    try run(devices[1], iova, Self.toMemory)
    #expect(memory.bytes.allSatisfy { $0 == 0x42 })
  }
}
