// A machine whose units have a RecordingDriver, and a client with an open iommufd and open device
// files, which issues ioctls with the structs of the uAPI.

import CLinux
import CUAPI
import Glibc
import Host
import IOMMU
import IOMMUFD
import Machine
import PCI
import Synchronization
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import VFIO

/// DMA through the domains of a RecordingDriver. A request moves all bytes or none.
struct RecordingPath: DMAPath {
  let requester: RequesterID
  let driver: RecordingDriver
  let memory: PhysicalMemory

  func read(
    _ iova: IOVA, _ attributes: DMAAttributes, into buffer: UnsafeMutableRawBufferPointer
  ) -> DMAOutcome {
    guard let physical = translate(iova, buffer.count, .read, attributes.pasid) else {
      return .aborted
    }
    return memory.read(physical, into: buffer) == .done ? .completed : .aborted
  }

  func write(
    _ bytes: UnsafeRawBufferPointer, to iova: IOVA, _ attributes: DMAAttributes
  ) -> DMAOutcome {
    guard let physical = translate(iova, bytes.count, .write, attributes.pasid) else {
      return .aborted
    }
    return memory.write(bytes, to: physical) == .done ? .completed : .aborted
  }

  /// A request of these tests lies inside one mapping.
  private func translate(
    _ iova: IOVA, _ count: Int, _ access: Permissions, _ pasid: PASID?
  ) -> PhysicalAddress? {
    guard let domain = driver.domain(of: requester, pasid: pasid) else { return nil }
    for (start, mapping) in domain.mappings where iova.rawValue >= start {
      let offset = iova.rawValue - start
      guard offset < mapping.length, mapping.permissions.contains(access) else { continue }
      guard UInt64(count) <= mapping.length - offset else { return nil }
      return PhysicalAddress(mapping.physical.rawValue + offset)
    }
    return nil
  }
}

final class Rig: Sendable {
  /// Limits with which one process can have many rigs.
  static var limits: PhysicalMemory.Limits {
    var limits = PhysicalMemory.Limits()
    limits.addressBits = 36
    return limits
  }

  /// The driver of every unit, unless the rig has been made with `init(own:)`.
  let driver: RecordingDriver
  let machine: Machine
  let client = InProcessClient()
  let iommufd: Int32

  /// Makes a machine with the drivers of its description.
  init(own description: MachineDescription) throws {
    driver = RecordingDriver()
    machine = try Machine(description, limits: Self.limits)
    iommufd = try client.add(machine.iommufd)
  }

  init(_ description: MachineDescription = .builtIn) throws {
    let driver = RecordingDriver()
    self.driver = driver
    machine = try Machine(description, limits: Self.limits) { _, memory in
      MachineUnit(driver: driver) {
        RecordingPath(requester: $0, driver: driver, memory: memory)
      }
    }
    iommufd = try client.add(machine.iommufd)
  }

  /// Opens device `index`.
  func open(_ index: Int = 0) throws -> DeviceClient {
    DeviceClient(client, try client.open(machine.devices[index].node))
  }

  /// Opens device `index` and binds it to the iommufd.
  func bound(_ index: Int = 0) throws -> DeviceClient {
    let device = try open(index)
    let failure = device.bind(iommufd)
    guard failure == nil else { throw failure ?? .invalidArgument }
    return device
  }

  /// IOMMU_IOAS_ALLOC
  func makeIOAS() -> UInt32 {
    var command = iommu_ioas_alloc()
    command.size = UInt32(MemoryLayout<iommu_ioas_alloc>.size)
    let failure = call(.ioasAlloc, &command)
    precondition(failure == nil)
    return command.out_ioas_id
  }

  func map(_ memory: TestMemory, on ioas: UInt32, at iova: UInt64) -> Errno? {
    var command = iommu_ioas_map()
    command.size = UInt32(MemoryLayout<iommu_ioas_map>.size)
    command.flags = 7  // fixed, readable, writeable
    command.ioas_id = ioas
    command.user_va = memory.address
    command.length = UInt64(memory.byteCount)
    command.iova = iova
    return call(.ioasMap, &command)
  }

  func unmap(_ length: Int, on ioas: UInt32, at iova: UInt64) -> Errno? {
    var command = iommu_ioas_unmap()
    command.size = UInt32(MemoryLayout<iommu_ioas_unmap>.size)
    command.ioas_id = ioas
    command.iova = iova
    command.length = UInt64(length)
    return call(.ioasUnmap, &command)
  }

  /// Maps a page that is filled with `byte` at `iova` of a new IOAS, and attaches `device` to the
  /// IOAS.
  func page(_ byte: UInt8, at iova: UInt64, of device: DeviceClient) -> TestMemory {
    let memory = TestMemory()
    let ioas = makeIOAS()
    memory.fill(byte)
    #expect(map(memory, on: ioas, at: iova) == nil)
    #expect(device.attach(ioas) == nil)
    return memory
  }

  private func call<T: BitwiseCopyable>(_ request: Ioctl, _ argument: inout T) -> Errno? {
    DeviceClient(client, iommufd).call(request, &argument)
  }
}

extension InProcessClient {
  func add(_ device: any CharacterDevice) throws -> Int32 { try open(device) }
}

/// An open file of the client, with the calls on it.
struct DeviceClient: Sendable {
  let client: InProcessClient
  let number: Int32

  init(_ client: InProcessClient, _ number: Int32) {
    self.client = client
    self.number = number
  }

  func close() { client.close(number) }

  enum Direction: UInt32 { case toMemory = 1, toDevice = 3 }

  /// Makes the test device copy a page. The copy has ended when the write of the command returns.
  func copy(_ direction: Direction, _ iova: UInt64) throws {
    try write(0, 0, UInt32(truncatingIfNeeded: iova))
    try write(0, 4, UInt32(truncatingIfNeeded: iova >> 32))
    try write(0, 8, direction.rawValue)
    #expect(try read(0, 8, as: UInt32.self) & 1 == 0)
  }

  func ioctl(_ request: Ioctl, _ argument: UInt64 = 0) -> Errno? {
    guard let file = client.file(number) else { return .badFileDescriptor }
    do throws(Errno) {
      _ = try file.ioctl(request.number.rawValue, argument: argument, client: client)
      return nil
    } catch {
      return error
    }
  }

  func call<T: BitwiseCopyable>(_ request: Ioctl, _ argument: inout T) -> Errno? {
    let memory = TestMemory()
    memory.store(argument)
    let failure = ioctl(request, memory.address)
    argument = memory.load(T.self)
    return failure
  }

  func bind(_ iommufd: Int32) -> Errno? {
    var command = vfio_device_bind_iommufd()
    command.argsz = UInt32(MemoryLayout<vfio_device_bind_iommufd>.size)
    command.iommufd = iommufd
    return call(.vfioDeviceBindIOMMUFD, &command)
  }

  func attach(_ table: UInt32, pasid: UInt32? = nil) -> Errno? {
    var command = vfio_device_attach_iommufd_pt()
    command.argsz = 16
    command.flags = pasid == nil ? 0 : 1
    command.pt_id = table
    command.pasid = pasid ?? 0
    return call(.vfioDeviceAttachIOMMUFDPageTable, &command)
  }

  func detach(pasid: UInt32? = nil) -> Errno? {
    var command = vfio_device_detach_iommufd_pt()
    command.argsz = 12
    command.flags = pasid == nil ? 0 : 1
    command.pasid = pasid ?? 0
    return call(.vfioDeviceDetachIOMMUFDPageTable, &command)
  }

  /// VFIO_DEVICE_SET_IRQS with eventfds, or without data.
  func setIRQs(
    _ flags: Int32, _ index: UInt32, start: UInt32 = 0, count: UInt32 = 1, _ events: [Int32] = []
  ) -> Errno? {
    let memory = TestMemory()
    let size = 20 + events.count * 4
    memory.store(
      IRQSetPrefix(
        argsz: UInt32(size), flags: UInt32(flags), index: index, start: start, count: count))
    for (index, event) in events.enumerated() { memory.store(event, at: 20 + index * 4) }
    return ioctl(.vfioDeviceSetIRQs, memory.address)
  }

  // MARK: pread and pwrite

  func read<T: FixedWidthInteger & BitwiseCopyable>(
    _ region: UInt64, _ offset: UInt64, as: T.Type = T.self
  ) throws -> T {
    let memory = TestMemory()
    let count = try transfer(region, offset, memory, T.bitWidth / 8, write: false)
    guard count == T.bitWidth / 8 else { throw Errno.ioError }
    return memory.load(T.self)
  }

  func write<T: FixedWidthInteger & BitwiseCopyable>(_ region: UInt64, _ offset: UInt64, _ value: T)
    throws
  {
    let memory = TestMemory()
    memory.store(value)
    let count = try transfer(region, offset, memory, T.bitWidth / 8, write: true)
    guard count == T.bitWidth / 8 else { throw Errno.ioError }
  }

  func transfer(
    _ region: UInt64, _ offset: UInt64, _ memory: TestMemory, _ count: Int, write: Bool
  ) throws(Errno) -> Int {
    guard let file = client.file(number) else { throw .badFileDescriptor }
    let buffer = UserBuffer(memory: client, address: memory.address, count: count)
    let position = RegionOffset.start(of: region) + offset
    return write
      ? try file.write(from: buffer, at: position) : try file.read(into: buffer, at: position)
  }

  func config<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as: T.Type = T.self) throws
    -> T
  {
    try read(RegionIndex.config, UInt64(offset))
  }
  func setConfig<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _ value: T) throws {
    try write(RegionIndex.config, UInt64(offset), value)
  }
}

/// A client's eventfd.
final class Event: Sendable {
  let number: Int32
  init() { number = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK)) }
  deinit { Glibc.close(number) }

  /// Returns the counter and sets it to 0.
  func drain() -> UInt64 {
    var count: UInt64 = 0
    return Glibc.read(number, &count, 8) == 8 ? count : 0
  }

  /// Adds `count` to the counter.
  func signal(_ count: UInt64 = 1) {
    var count = count
    _ = Glibc.write(number, &count, 8)
  }

  /// Waits for at most five seconds until the counter is not 0.
  func wait() -> Bool {
    var poll = pollfd(fd: number, events: Int16(POLLIN), revents: 0)
    return Glibc.poll(&poll, 1, 5000) == 1
  }
}

/// Evaluates the condition until it is true, for at most five seconds, because another thread makes
/// it true.
func eventually(_ condition: () throws -> Bool) rethrows -> Bool {
  for _ in 0..<500 {
    if try condition() { return true }
    usleep(10_000)
  }
  return try condition()
}
