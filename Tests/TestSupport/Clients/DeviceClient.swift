// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
internal import Glibc
package import SystemPackage
package import UAPI

/// An open file of the client, with the calls on it.
package struct DeviceClient: Sendable {
  private static let config = UInt64(VFIO_PCI_CONFIG_REGION_INDEX)
  package let client: InProcessClient
  package let number: Int32

  package init(_ client: InProcessClient, _ number: Int32) {
    self.client = client
    self.number = number
  }

  package func close() { client.close(number) }

  package enum Direction: UInt32 { case toMemory = 1, toDevice = 3 }

  /// Makes the ATS test device copy a page. The copy has ended when the write of the command
  /// returns.
  package func copy(_ direction: Direction, _ iova: UInt64) throws {
    try write(0, 0, UInt32(truncatingIfNeeded: iova))
    try write(0, 4, UInt32(truncatingIfNeeded: iova >> 32))
    try write(0, 8, direction.rawValue)
    guard try read(0, 8, as: UInt32.self) & 1 == 0 else { throw Errno.resourceBusy }
  }

  package func ioctl(_ request: Ioctl, _ argument: UInt64 = 0) -> Errno? {
    guard let file = client.file(number) else { return .badFileDescriptor }
    do throws(Errno) {
      _ = try file.ioctl(request.number.rawValue, argument: argument, client: client)
      return nil
    } catch {
      return error
    }
  }

  package func call<T: BitwiseCopyable>(_ request: Ioctl, _ argument: inout T) -> Errno? {
    let memory = TestMemory()
    memory.store(argument)
    let failure = ioctl(request, memory.address)
    argument = memory.load(T.self)
    return failure
  }

  package func bind(_ iommufd: Int32) -> Errno? {
    var command = vfio_device_bind_iommufd()
    command.argsz = UInt32(MemoryLayout<vfio_device_bind_iommufd>.size)
    command.iommufd = iommufd
    return call(.vfioDeviceBindIOMMUFD, &command)
  }

  package func attach(_ table: UInt32, pasid: UInt32? = nil) -> Errno? {
    var command = vfio_device_attach_iommufd_pt()
    command.argsz = 16
    command.flags = pasid == nil ? 0 : 1
    command.pt_id = table
    command.pasid = pasid ?? 0
    return call(.vfioDeviceAttachIOMMUFDPageTable, &command)
  }

  package func detach(pasid: UInt32? = nil) -> Errno? {
    var command = vfio_device_detach_iommufd_pt()
    command.argsz = 12
    command.flags = pasid == nil ? 0 : 1
    command.pasid = pasid ?? 0
    return call(.vfioDeviceDetachIOMMUFDPageTable, &command)
  }

  /// VFIO_DEVICE_SET_IRQS with eventfds, or without data.
  package func setIRQs(
    _ flags: Int32, _ index: UInt32, start: UInt32 = 0, count: UInt32 = 1, _ events: [Int32] = []
  ) -> Errno? {
    let memory = TestMemory()
    let size = 20 + events.count * 4
    memory.store([UInt32(size), UInt32(flags), index, start, count] as InlineArray<5, UInt32>)
    for (index, event) in events.enumerated() { memory.store(event, at: 20 + index * 4) }
    return ioctl(.vfioDeviceSetIRQs, memory.address)
  }

  // MARK: pread and pwrite

  package func read<T: FixedWidthInteger & BitwiseCopyable>(
    _ region: UInt64, _ offset: UInt64, as: T.Type = T.self
  ) throws -> T {
    let memory = TestMemory()
    let count = try transfer(region, offset, memory, T.bitWidth / 8, write: false)
    guard count == T.bitWidth / 8 else { throw Errno.ioError }
    return memory.load(T.self)
  }

  package func write<T: FixedWidthInteger & BitwiseCopyable>(
    _ region: UInt64, _ offset: UInt64, _ value: T
  )
    throws
  {
    let memory = TestMemory()
    memory.store(value)
    let count = try transfer(region, offset, memory, T.bitWidth / 8, write: true)
    guard count == T.bitWidth / 8 else { throw Errno.ioError }
  }

  package func transfer(
    _ region: UInt64, _ offset: UInt64, _ memory: TestMemory, _ count: Int, write: Bool
  ) throws(Errno) -> Int {
    guard let file = client.file(number) else { throw .badFileDescriptor }
    let buffer = UserBuffer(memory: client, address: memory.address, count: count)
    let position = RegionOffset.start(of: region) + offset
    return write
      ? try file.write(from: buffer, at: position) : try file.read(into: buffer, at: position)
  }

  package func config<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as: T.Type = T.self)
    throws
    -> T
  {
    try read(Self.config, UInt64(offset))
  }
  package func setConfig<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _ value: T) throws {
    try write(Self.config, UInt64(offset), value)
  }
}
