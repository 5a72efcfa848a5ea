// SPDX-License-Identifier: Apache-2.0

import CUAPI
import Glibc
import IOMMU
import Machine
import PCI
import SystemPackage
import TestSupport
import Testing
import UAPI

@Suite("DMA and faults of devices behind the built-in VT-d unit")
struct VTdFlowTests {
  private let iova: UInt64 = 0x10_0000
  private let fixture: VFIOFixture

  init() throws { fixture = try VFIOFixture(own: .builtIn) }

  /// Allocates a fault log for every device (SIM_FAULT_LOG_ALLOC).
  private func openLog() throws -> DeviceClient {
    var command = iommufd_sim_fault_log_alloc()
    command.size = UInt32(MemoryLayout<iommufd_sim_fault_log_alloc>.size)
    let failure = DeviceClient(fixture.client, fixture.iommufd).call(.simFaultLogAlloc, &command)
    try #require(failure == nil)
    return DeviceClient(fixture.client, Int32(bitPattern: command.out_fd))
  }

  private func faults(_ log: DeviceClient) throws -> [iommufd_sim_fault] {
    let file = try #require(fixture.client.file(log.number))
    let memory = TestMemory()
    let size = MemoryLayout<iommufd_sim_fault>.size
    let buffer = UserBuffer(memory: fixture.client, address: memory.address, count: 16 * size)
    let count = try file.read(into: buffer, at: 0) / size
    return (0..<count).map { memory.load(at: $0 * size) }
  }

  @Test("copies arrive, and a copy to an unmapped page faults and moves no byte")
  func flow() throws {
    let log = try openLog()
    let device = try fixture.bound()
    let ioas = fixture.makeIOAS()
    let source = TestMemory()
    let target = TestMemory()
    source.bytes.copyBytes(from: (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 31) })
    #expect(fixture.map(source, on: ioas, at: iova) == nil)
    #expect(device.attach(ioas) == nil)
    #expect(fixture.map(target, on: ioas, at: iova + 0x1000) == nil)
    try device.setConfig(4, UInt16(6))

    try device.copy(.toDevice, iova)
    try device.copy(.toMemory, iova + 0x1000)
    #expect(target.bytes.elementsEqual(source.bytes))
    #expect(try faults(log).isEmpty)

    #expect(fixture.unmap(4096, on: ioas, at: iova + 0x1000) == nil)
    target.fill(0xee)
    try device.copy(.toMemory, iova + 0x1000)
    #expect(target.bytes.allSatisfy { $0 == 0xee })

    let fault = try #require(try faults(log).first)
    #expect(fault.type == IOMMUFD_SIM_FAULT_TYPE_DMA.rawValue)
    #expect(fault.iova & ~0xfff == iova + 0x1000)
    #expect(fault.flags == IOMMUFD_SIM_FAULT_WRITE.rawValue)
    #expect(fault.requester == 0x0100)
    #expect(fault.dev_id == 1)
  }

  @Test("a copy that crosses the end of a mapping moves no byte")
  func partial() throws {
    let log = try openLog()
    let device = try fixture.bound()
    let memory = try fixture.page(0x55, at: iova, of: device)
    try device.setConfig(4, UInt16(6))
    try device.copy(.toMemory, iova + 0x800)
    #expect(memory.bytes.allSatisfy { $0 == 0x55 })
    #expect(try faults(log).map(\.iova) == [iova + 0x1000])
  }

  @Test("a device without bus mastering issues no request, so there is no fault")
  func busMaster() throws {
    let log = try openLog()
    let device = try fixture.bound()
    #expect(device.attach(fixture.makeIOAS()) == nil)
    try device.copy(.toMemory, iova)
    #expect(try faults(log).isEmpty)
    try device.setConfig(4, UInt16(6))
    try device.copy(.toMemory, iova)
    #expect(try faults(log).count == 1)
  }

  @Test("the DMA of a device without a page table is blocked")
  func blocked() throws {
    let log = try openLog()
    let device = try fixture.bound()
    try device.setConfig(4, UInt16(6))
    try device.copy(.toMemory, iova)
    #expect(try faults(log).count == 1)
    let memory = try fixture.page(0x55, at: iova, of: device)
    #expect(device.detach() == nil)
    try device.copy(.toMemory, iova)
    #expect(try faults(log).count == 1)
    #expect(memory.bytes.allSatisfy { $0 == 0x55 })
  }

  @Test("the same IOVA of two devices in two address spaces is different memory")
  func isolation() throws {
    let devices = [try fixture.bound(0), try fixture.bound(1)]
    let memories = try [1, 2].map { try fixture.page($0, at: iova, of: devices[Int($0) - 1]) }
    for device in devices { try device.setConfig(4, UInt16(6)) }
    try devices[0].copy(.toDevice, iova)
    try devices[1].copy(.toMemory, iova)
    #expect(memories[0].bytes.allSatisfy { $0 == 1 })
    #expect(memories[1].bytes.allSatisfy { $0 == 0 })
  }

  @Test("the functions of a group share the page table of the first attached function")
  func group() throws {
    let devices = [try fixture.bound(2), try fixture.bound(3)]
    let memory = try fixture.page(0x42, at: iova, of: devices[0])
    try devices[1].setConfig(4, UInt16(6))
    try devices[1].copy(.toDevice, iova)
    memory.fill(0)
    try devices[1].copy(.toMemory, iova)
    #expect(memory.bytes.allSatisfy { $0 == 0x42 })
  }
}
