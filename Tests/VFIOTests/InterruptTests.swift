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

/// A bell, opened and bound, that is its own bus master.
struct BellRig {
  let client = InProcessClient()
  let device: DeviceClient
  let memory: PhysicalMemory

  init() throws {
    let requester = RequesterID(bus: 9, device: 0, function: 0)
    let driver = RecordingDriver()
    memory = try PhysicalMemory(Rig.limits)
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

@Suite("Interrupts of the device reach the client's eventfds")
struct InterruptTests {
  private let rig: BellRig
  private let events = [Event(), Event(), Event()]
  private var device: DeviceClient { rig.device }

  init() throws { rig = try BellRig() }

  @Test("MSI-X: each vector its own eventfd; a vector without one is lost")
  func msix() throws {
    #expect(device.setIRQs(eventTrigger, 2, count: 2, [events[0].number, events[1].number]) == nil)
    try rig.raise(1)
    try rig.raise(1)
    try rig.raise(5)
    #expect(events.map { $0.take() } == [0, 2, 0])
    #expect(device.setIRQs(eventTrigger, 2, start: 5, [events[2].number]) == nil)
    try rig.raise(5)
    #expect(events.map { $0.take() } == [0, 0, 1])
    #expect(device.setIRQs(noneTrigger, 2, count: 0) == nil)
    try rig.raise(1)
    #expect(events.map { $0.take() } == [0, 0, 0])
  }

  @Test("MSI: causes fold onto the vectors that were asked for")
  func msi() throws {
    #expect(device.setIRQs(eventTrigger, 1, count: 2, [events[0].number, events[1].number]) == nil)
    try rig.raise(0)
    try rig.raise(3)
    #expect(events.map { $0.take() } == [1, 1, 0])
  }

  @Test("a message is a write: none without bus mastering")
  func busMaster() throws {
    #expect(device.setIRQs(eventTrigger, 2, [events[0].number]) == nil)
    try device.setConfig(4, UInt16(2))
    try rig.raise(0)
    #expect(events[0].take() == 0)
  }

  @Test("INTx signals once and masks itself; unmasking an asserted pin signals again")
  func automask() throws {
    #expect(device.setIRQs(eventTrigger, 0, [events[0].number]) == nil)
    try rig.setINTx(true)
    try rig.setINTx(true)
    #expect(events[0].take() == 1)
    #expect(device.setIRQs(noneUnmask, 0) == nil)
    #expect(events[0].take() == 1)
    try rig.setINTx(false)
    #expect(device.setIRQs(noneUnmask, 0) == nil)
    #expect(events[0].take() == 0)
    try rig.setINTx(true)
    #expect(events[0].take() == 1)
  }

  @Test("INTx masked by the client waits")
  func masked() throws {
    #expect(device.setIRQs(eventTrigger, 0, [events[0].number]) == nil)
    #expect(device.setIRQs(noneMask, 0) == nil)
    try rig.setINTx(true)
    #expect(events[0].take() == 0)
    #expect(device.setIRQs(noneUnmask, 0) == nil)
    #expect(events[0].take() == 1)
  }

  @Test("the pin is asserted before INTx is enabled")
  func early() throws {
    try rig.setINTx(true)
    #expect(device.setIRQs(eventTrigger, 0, [events[0].number]) == nil)
    #expect(events[0].take() == 1)
  }

  @Test("the client's interrupt disable bit masks, and unmasks with what is pending")
  func disableBit() throws {
    #expect(device.setIRQs(eventTrigger, 0, [events[0].number]) == nil)
    try device.setConfig(4, UInt16(0x406))
    try rig.setINTx(true)
    #expect(events[0].take() == 0)
    #expect(device.setIRQs(noneUnmask, 0) == nil)
    #expect(events[0].take() == 0)
    try device.setConfig(4, UInt16(6))
    #expect(events[0].take() == 1)
    #expect(try device.config(6, as: UInt16.self) & 8 != 0)
  }

  @Test("an eventfd unmasks, and its counter is consumed")
  func unmaskByEvent() throws {
    #expect(device.setIRQs(eventTrigger, 0, [events[0].number]) == nil)
    #expect(device.setIRQs(eventUnmask, 0, [events[1].number]) == nil)
    try rig.setINTx(true)
    #expect(events[0].take() == 1)
    events[1].add()
    #expect(events[0].wait())
    #expect(events[0].take() == 1)
    #expect(eventually { events[1].take() == 0 })
    #expect(device.setIRQs(eventUnmask, 0, [-1]) == nil)
    events[1].add()
    usleep(50_000)
    #expect(events[0].take() == 0)
    #expect(events[1].take() == 1)
  }

  @Test("an eventfd that was signalled before counts as the first signal")
  func pendingUnmask() throws {
    #expect(device.setIRQs(eventTrigger, 0, [events[0].number]) == nil)
    try rig.setINTx(true)
    #expect(events[0].take() == 1)
    events[1].add()
    #expect(device.setIRQs(eventUnmask, 0, [events[1].number]) == nil)
    #expect(events[0].wait())
  }

  @Test("a full eventfd loses the signal and blocks nobody")
  func full() throws {
    let event = Event()
    #expect(fcntl(event.number, F_SETFL, 0) == 0)
    #expect(device.setIRQs(eventTrigger, 2, [event.number]) == nil)
    event.add(UInt64.max - 1)
    try rig.raise(0)
    try rig.raise(0)
    #expect(fcntl(event.number, F_SETFL, O_NONBLOCK) == 0)
    #expect(event.take() >= UInt64.max - 1)
  }

  @Test("the client's own descriptor may be closed")
  func closedDescriptor() throws {
    let copy = dup(events[0].number)
    #expect(device.setIRQs(eventTrigger, 2, [copy]) == nil)
    Glibc.close(copy)
    try rig.raise(0)
    #expect(events[0].take() == 1)
  }

  @Test("closing the device ends everything; the next opening starts without interrupts")
  func reopen() throws {
    #expect(device.setIRQs(eventTrigger, 2, [events[0].number]) == nil)
    #expect(device.setIRQs(eventTrigger, 3, [events[1].number]) == nil)
    #expect(device.setIRQs(eventTrigger, 4, [events[2].number]) == nil)
    device.close()
    #expect(events.map { $0.take() } == [0, 0, 0])
  }
}

@Suite("Doorbells by eventfd")
struct IOEventTests {
  private let rig: BellRig
  private let event = Event()

  init() throws { rig = try BellRig() }

  private func set(_ fd: Int32, offset: UInt64 = 8, value: UInt64 = 0x77) -> Errno? {
    var command = vfio_device_ioeventfd()
    command.argsz = 32
    command.flags = UInt32(VFIO_DEVICE_IOEVENTFD_32)
    command.offset = RegionOffset.start(of: 0) + offset
    command.data = value
    command.fd = fd
    return rig.device.call(.vfioDeviceIOEventFD, &command)
  }

  @Test("a signal writes the value")
  func writes() throws {
    #expect(set(event.number) == nil)
    event.add()
    #expect(try eventually { try rig.device.read(0, 8, as: UInt32.self) == 0x77 })
  }

  @Test("a removed one writes no more")
  func removed() throws {
    #expect(set(event.number) == nil)
    #expect(set(-1) == nil)
    event.add()
    usleep(50_000)
    #expect(try rig.device.read(0, 8, as: UInt32.self) == 0)
    #expect(event.take() == 1)
  }

  @Test("at most a thousand")
  func limit() {
    for value in 0..<1000 { #expect(set(event.number, value: UInt64(value)) == nil) }
    #expect(set(event.number, value: 1000) == .noSpace)
    #expect(set(-1, value: 7) == nil)
    #expect(set(event.number, value: 1000) == nil)
  }

  @Test("not into the MSI-X table")
  func table() throws {
    #expect(set(event.number, offset: 2 << 40) == .invalidArgument)
    #expect(set(event.number, offset: 2 << 40 + 8 * 16) == nil)
    #expect(set(event.number, offset: 2 << 40 + 8 * 16 - 1) == .invalidArgument)
  }
}
