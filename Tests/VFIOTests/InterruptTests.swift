// SPDX-License-Identifier: Apache-2.0

import CLinux
import CUAPI
import Glibc
import Host
import IOMMU
import IOMMUFD
import PCI
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import VFIO

/// A device with the model `Bell`, opened and bound, with bus mastering enabled.
struct BellFixture {
  let client = InProcessClient()
  let device: DeviceClient
  let memory: PhysicalMemory

  init() throws {
    let requester = RequesterID(bus: 9, device: 0, function: 0)
    let driver = RecordingDriver()
    memory = try PhysicalMemory(VFIOFixture.limits)
    let function = Function(
      Bell(), description: Bell.description, at: requester,
      path: RecordingPath(requester: requester, driver: driver, memory: memory))
    let set = DeviceSet(isBus: true)
    let vfio = VFIODevice(
      function,
      physical: PhysicalDevice(
        name: "bell", requesterID: requester, driver: driver, group: IOMMUGroup(id: 9)),
      in: set, isAloneOnBus: true)
    set.add(vfio)
    let iommufd = try client.open(IOMMUFDDevice(memory: memory))
    device = DeviceClient(client, try client.open(VFIODeviceNode(vfio, index: 0)))
    let failure = device.bind(iommufd)
    guard failure == nil else { throw failure ?? .invalidArgument }
    try device.setConfig(4, UInt16(6))
  }

  func raise(_ vector: Int) throws { try device.write(0, 0, UInt32(vector)) }
  func setINTx(_ asserted: Bool) throws { try device.write(0, 4, UInt32(asserted ? 1 : 0)) }
}

private let eventTrigger = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER
private let noneTrigger = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER
private let noneMask = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK
private let noneUnmask = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK
private let eventUnmask = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK

@Suite("Interrupts signal the client's eventfds")
struct InterruptTests {
  private let fixture: BellFixture
  private let events = [EventFile(), EventFile(), EventFile()]
  private var device: DeviceClient { fixture.device }

  init() throws { fixture = try BellFixture() }

  @Test("each MSI-X vector signals its own eventfd, and a vector without eventfd is lost")
  func msix() throws {
    #expect(device.setIRQs(eventTrigger, 2, count: 2, [events[0].number, events[1].number]) == nil)
    try fixture.raise(1)
    try fixture.raise(1)
    try fixture.raise(5)
    #expect(events.map { $0.drain() } == [0, 2, 0])
    #expect(device.setIRQs(eventTrigger, 2, start: 5, [events[2].number]) == nil)
    try fixture.raise(5)
    #expect(events.map { $0.drain() } == [0, 0, 1])
    #expect(device.setIRQs(noneTrigger, 2, count: 0) == nil)
    try fixture.raise(1)
    #expect(events.map { $0.drain() } == [0, 0, 0])
  }

  @Test("with fewer MSI vectors than the device uses, vectors share eventfds")
  func msi() throws {
    #expect(device.setIRQs(eventTrigger, 1, count: 2, [events[0].number, events[1].number]) == nil)
    try fixture.raise(0)
    try fixture.raise(3)
    #expect(events.map { $0.drain() } == [1, 1, 0])
  }

  @Test("without bus mastering no MSI-X message is sent")
  func busMaster() throws {
    #expect(device.setIRQs(eventTrigger, 2, [events[0].number]) == nil)
    try device.setConfig(4, UInt16(2))
    try fixture.raise(0)
    #expect(events[0].drain() == 0)
  }

  @Test("INTx signals once and is masked, and unmasking it while it is asserted signals again")
  func automask() throws {
    #expect(device.setIRQs(eventTrigger, 0, [events[0].number]) == nil)
    try fixture.setINTx(true)
    try fixture.setINTx(true)
    #expect(events[0].drain() == 1)
    #expect(device.setIRQs(noneUnmask, 0) == nil)
    #expect(events[0].drain() == 1)
    try fixture.setINTx(false)
    #expect(device.setIRQs(noneUnmask, 0) == nil)
    #expect(events[0].drain() == 0)
    try fixture.setINTx(true)
    #expect(events[0].drain() == 1)
  }

  @Test("INTx that the client has masked signals after it is unmasked")
  func masked() throws {
    #expect(device.setIRQs(eventTrigger, 0, [events[0].number]) == nil)
    #expect(device.setIRQs(noneMask, 0) == nil)
    try fixture.setINTx(true)
    #expect(events[0].drain() == 0)
    #expect(device.setIRQs(noneUnmask, 0) == nil)
    #expect(events[0].drain() == 1)
  }

  @Test("INTx that is asserted before it is enabled signals at once")
  func early() throws {
    try fixture.setINTx(true)
    #expect(device.setIRQs(eventTrigger, 0, [events[0].number]) == nil)
    #expect(events[0].drain() == 1)
  }

  @Test("Interrupt Disable masks INTx, and clearing it signals an asserted INTx")
  func disableBit() throws {
    #expect(device.setIRQs(eventTrigger, 0, [events[0].number]) == nil)
    try device.setConfig(4, UInt16(0x406))
    try fixture.setINTx(true)
    #expect(events[0].drain() == 0)
    #expect(device.setIRQs(noneUnmask, 0) == nil)
    #expect(events[0].drain() == 0)
    try device.setConfig(4, UInt16(6))
    #expect(events[0].drain() == 1)
    #expect(try device.config(6, as: UInt16.self) & 8 != 0)
  }

  @Test("an eventfd unmasks INTx, and its counter becomes 0")
  func unmaskByEvent() throws {
    #expect(device.setIRQs(eventTrigger, 0, [events[0].number]) == nil)
    #expect(device.setIRQs(eventUnmask, 0, [events[1].number]) == nil)
    try fixture.setINTx(true)
    #expect(events[0].drain() == 1)
    events[1].signal()
    #expect(events[0].wait())
    #expect(events[0].drain() == 1)
    #expect(eventually { events[1].drain() == 0 })
    #expect(device.setIRQs(eventUnmask, 0, [-1]) == nil)
    events[1].signal()
    usleep(50_000)
    #expect(events[0].drain() == 0)
    #expect(events[1].drain() == 1)
  }

  @Test("an unmask eventfd that has been signalled before it is set unmasks INTx")
  func pendingUnmask() throws {
    #expect(device.setIRQs(eventTrigger, 0, [events[0].number]) == nil)
    try fixture.setINTx(true)
    #expect(events[0].drain() == 1)
    events[1].signal()
    #expect(device.setIRQs(eventUnmask, 0, [events[1].number]) == nil)
    #expect(events[0].wait())
  }

  @Test("an eventfd with a full counter loses the signal and does not block")
  func full() throws {
    let event = EventFile()
    #expect(fcntl(event.number, F_SETFL, 0) == 0)
    #expect(device.setIRQs(eventTrigger, 2, [event.number]) == nil)
    event.signal(UInt64.max - 1)
    try fixture.raise(0)
    try fixture.raise(0)
    #expect(fcntl(event.number, F_SETFL, O_NONBLOCK) == 0)
    #expect(event.drain() >= UInt64.max - 1)
  }

  @Test("the eventfd stays set after the client has closed its descriptor")
  func closedDescriptor() throws {
    let copy = dup(events[0].number)
    #expect(device.setIRQs(eventTrigger, 2, [copy]) == nil)
    Glibc.close(copy)
    try fixture.raise(0)
    #expect(events[0].drain() == 1)
  }

  @Test("close disables every interrupt without a signal")
  func reopen() throws {
    #expect(device.setIRQs(eventTrigger, 2, [events[0].number]) == nil)
    #expect(device.setIRQs(eventTrigger, 3, [events[1].number]) == nil)
    #expect(device.setIRQs(eventTrigger, 4, [events[2].number]) == nil)
    device.close()
    #expect(events.map { $0.drain() } == [0, 0, 0])
  }
}

@Suite("ioeventfds")
struct IOEventTests {
  private let fixture: BellFixture
  private let event = EventFile()

  init() throws { fixture = try BellFixture() }

  private func set(_ fd: Int32, offset: UInt64 = 8, value: UInt64 = 0x77) -> Errno? {
    var command = vfio_device_ioeventfd()
    command.argsz = 32
    command.flags = UInt32(VFIO_DEVICE_IOEVENTFD_32)
    command.offset = RegionOffset.start(of: 0) + offset
    command.data = value
    command.fd = fd
    return fixture.device.call(.vfioDeviceIOEventFD, &command)
  }

  @Test("a signal writes the value to the register")
  func writes() throws {
    #expect(set(event.number) == nil)
    event.signal()
    #expect(try eventually { try fixture.device.read(0, 8, as: UInt32.self) == 0x77 })
  }

  @Test("a removed ioeventfd writes nothing")
  func removed() throws {
    #expect(set(event.number) == nil)
    #expect(set(-1) == nil)
    event.signal()
    usleep(50_000)
    #expect(try fixture.device.read(0, 8, as: UInt32.self) == 0)
    #expect(event.drain() == 1)
  }

  @Test("a device has at most 1000 ioeventfds")
  func limit() {
    for value in 0..<1000 { #expect(set(event.number, value: UInt64(value)) == nil) }
    #expect(set(event.number, value: 1000) == .noSpace)
    #expect(set(-1, value: 7) == nil)
    #expect(set(event.number, value: 1000) == nil)
  }

  @Test("an ioeventfd cannot write the MSI-X table")
  func table() throws {
    #expect(set(event.number, offset: 2 << 40) == .invalidArgument)
    #expect(set(event.number, offset: 2 << 40 + 8 * 16) == nil)
    #expect(set(event.number, offset: 2 << 40 + 8 * 16 - 1) == .invalidArgument)
  }
}
