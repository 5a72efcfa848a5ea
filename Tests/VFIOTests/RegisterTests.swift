// SPDX-License-Identifier: Apache-2.0

import CUAPI
import Machine
import PCI
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import VFIO

@Suite("Configuration space as the client sees it")
struct VirtualConfigTests {
  /// The IDs of the extended capabilities in list order.
  private func extendedList(_ device: DeviceClient) throws -> [UInt32] {
    var ids: [UInt32] = []
    var position = 0x100
    while position != 0, ids.count < 8 {
      let header: UInt32 = try device.config(position)
      ids.append(header & 0xffff)
      position = Int(header >> 20)
    }
    return ids
  }

  private func device(
    ats: Bool, pageRequests: Bool, pasidWidth: Int
  ) throws -> DeviceClient {
    var description = MachineDescription.builtIn
    description.devices[0].hasATS = ats
    description.devices[0].hasPageRequests = pageRequests
    description.devices[0].pasidWidth = pasidWidth
    return try VFIOFixture(description).bound()
  }

  @Test("the client sees the ATS and page request capabilities and not the PASID capability")
  func hiddenPASID() throws {
    let device = try device(ats: true, pageRequests: true, pasidWidth: 16)
    #expect(try extendedList(device) == [0x0f, 0x13])
  }

  @Test("a hidden capability at the start of the list has the ID 0")
  func hiddenFirst() throws {
    let device = try device(ats: false, pageRequests: false, pasidWidth: 16)
    #expect(try extendedList(device) == [0])
    #expect(try device.config(0x100, as: UInt32.self) == 0)
  }

  @Test("without extended capabilities the extended space reads 0")
  func noneAtAll() throws {
    let device = try device(ats: false, pageRequests: false, pasidWidth: 0)
    #expect(try device.config(0x100, as: UInt32.self) == 0)
    try device.setConfig(0x100, UInt32.max)
    #expect(try device.config(0x100, as: UInt32.self) == 0)
  }

  @Test("the client cannot enable ATS")
  func readOnlyATS() throws {
    let device = try device(ats: true, pageRequests: false, pasidWidth: 0)
    try device.setConfig(0x106, UInt16(0x8000))
    #expect(try device.config(0x106, as: UInt16.self) == 0)
  }

  @Test("a write of a physical register keeps the virtual bits of the register")
  func readModifyWrite() throws {
    let device = try VFIOFixture().bound()
    let before: UInt16 = try device.config(0x88)
    // Payload size is virtual, the tag bit is physical, the phantom function bit is read-only.
    try device.setConfig(0x88, UInt16(0x03e0))
    #expect(try device.config(0x88, as: UInt16.self) == 0x01e0)
    let function = try #require(device.node?.function)
    #expect(function.readConfig(0x88, as: UInt16.self) & 0x00e0 == before & 0x00e0)
  }

  @Test("the client can enable as many MSI vectors as were enabled last, also after close")
  func msiLimit() throws {
    let fixture = try VFIOFixture()
    let device = try fixture.bound()
    let events = (0..<4).map { _ in EventFile() }
    let trigger = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER
    #expect(device.setIRQs(trigger, 1, count: 4, events.map(\.number)) == nil)
    try device.setConfig(0xc2, UInt16(0x71))
    #expect(try device.config(0xc2, as: UInt16.self) & 0x71 == 0x21)
    device.close()
    let again = try fixture.bound()
    try again.setConfig(0xc2, UInt16(0x71))
    #expect(try again.config(0xc2, as: UInt16.self) & 0x71 == 0x20)
  }

  @Test("a function level reset by the client resets the device and keeps the client's BARs")
  func functionReset() throws {
    let device = try VFIOFixture().bound()
    try device.write(0, 0, UInt32(0x1234_5678))
    try device.setConfig(0x10, UInt32(0xabc0_0000))
    try device.setConfig(0x88, UInt16(0x8000))
    #expect(try device.read(0, 0, as: UInt32.self) == 0)
    #expect(try device.config(0x10, as: UInt32.self) == 0xabc0_0004)
    #expect(try device.config(0x88, as: UInt16.self) & 0x8000 == 0)
  }

  @Test("one read of the whole space returns what reads of single bytes return")
  func wholeSpace() throws {
    let device = try device(ats: true, pageRequests: true, pasidWidth: 8)
    let memory = TestMemory()
    #expect(try device.transfer(RegionIndex.config, 0, memory, 4096, write: false) == 4096)
    for position in 0..<4096 {
      let byte: UInt8 = try device.config(position)
      #expect(byte == memory.load(UInt8.self, at: position), "at \(position)")
    }
  }
}

@Suite("Accesses that are split or end early")
struct PartialAccessTests {
  private let fixture: VFIOFixture
  private let device: DeviceClient
  private let memory = TestMemory(pages: 2)

  init() throws {
    fixture = try VFIOFixture()
    device = try fixture.bound()
    memory.protect(.none, page: 1)
  }

  /// A buffer of `total` bytes that begins `count` bytes before the page that cannot be accessed.
  private func tail(_ count: Int, of total: Int) -> UserBuffer {
    UserBuffer(
      memory: device.client, address: memory.address + UInt64(4096 - count), count: total)
  }

  @Test("a write reaches the registers before the page that cannot be read")
  func write() throws {
    let file = try #require(device.client.file(device.number))
    memory.store(UInt64(0x1111_2222_3333_4444), at: 4096 - 8)
    let offset = RegionOffset.start(of: 0)
    #expect(throws: Errno.badAddress) { try file.write(from: tail(8, of: 16), at: offset) }
    #expect(try device.read(0, 0, as: UInt64.self) == 0x1111_2222_3333_4444)
  }

  @Test("a read that cannot be stored fails as a whole")
  func read() throws {
    let file = try #require(device.client.file(device.number))
    let offset = RegionOffset.start(of: RegionIndex.config)
    #expect(throws: Errno.badAddress) { try file.read(into: tail(8, of: 256), at: offset) }
  }

  @Test("a write that is ignored does not read the caller's memory")
  func ignored() throws {
    let file = try #require(device.client.file(device.number))
    let nowhere = UserBuffer(memory: device.client, address: memory.address + 4096, count: 4)
    let msix = RegionOffset.start(of: RegionIndex.config) + 0xd4
    #expect(try file.write(from: nowhere, at: msix) == 4)
    let table = RegionOffset.start(of: 2)
    #expect(try file.write(from: nowhere, at: table) == 4)
  }

  @Test("a read across the end of the MSI-X table returns ones for the table")
  func acrossTable() throws {
    let memory = TestMemory()
    // Eight vectors: 128 bytes of ones, then the registers of the device.
    #expect(try device.transfer(2, 0, memory, 256, write: false) == 256)
    #expect(memory.bytes[..<128].allSatisfy { $0 == 0xff })
    #expect(memory.bytes[128..<256].allSatisfy { $0 == 0 })
  }

  @Test("an unaligned access is split at natural boundaries")
  func unaligned() throws {
    let memory = TestMemory()
    try device.write(0, 0, UInt64(0x8877_6655_4433_2211))
    #expect(try device.transfer(0, 3, memory, 5, write: false) == 5)
    // One byte at offset 3, where no register is, then the upper half of the address register.
    #expect(memory.load(UInt8.self) == 0xff)
    #expect(memory.load(UInt32.self, at: 1) == 0x8877_6655)
  }

  @Test("an access ends at the end of the BAR")
  func clipped() throws {
    let memory = TestMemory()
    #expect(try device.transfer(0, 4090, memory, 100, write: false) == 6)
    #expect(throws: Errno.invalidArgument) {
      try device.transfer(0, 4096, memory, 1, write: false)
    }
  }
}

@Suite("Low power")
struct LowPowerTests {
  private func enter(_ device: DeviceClient, wakeUp event: EventFile?) -> Errno? {
    let memory = TestMemory()
    let number =
      event == nil
      ? VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY : VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP
    memory.store(FeaturePrefix(argsz: 16, flags: UInt32(number) | 1 << 17))
    memory.store(event?.number ?? 0, at: 8)
    return device.ioctl(.vfioDeviceFeature, memory.address)
  }

  @Test("the first access wakes the device and signals the eventfd once")
  func wakeUp() throws {
    let device = try VFIOFixture().bound()
    let event = EventFile()
    #expect(enter(device, wakeUp: event) == nil)
    #expect(event.drain() == 0)
    _ = try device.config(0, as: UInt32.self)
    #expect(event.drain() == 1)
    _ = try device.config(0, as: UInt32.self)
    #expect(event.drain() == 0)
  }

  @Test("low power without wake-up stays allowed until the client ends it")
  func withoutWakeUp() throws {
    let device = try VFIOFixture().bound()
    #expect(enter(device, wakeUp: nil) == nil)
    _ = try device.config(0, as: UInt32.self)
    #expect(enter(device, wakeUp: nil) == .invalidArgument)
    #expect(enter(device, wakeUp: EventFile()) == .invalidArgument)
    device.close()
  }
}

extension DeviceClient {
  /// The device of the open file.
  var node: VFIODevice? { (client.file(number) as? DeviceFile)?.device }
}
