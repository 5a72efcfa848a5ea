// SPDX-License-Identifier: Apache-2.0

internal import CUAPI
package import IOMMU
internal import IOMMUFD
package import Machine
internal import PCI
package import SystemPackage
package import UAPI
internal import VFIO

/// A machine whose units have a ``RecordingDriver``, and a client with an open iommufd. The client
/// opens device files and issues ioctls with the structs of the uAPI.
package final class VFIOFixture: Sendable {
  /// Limits with which one process can have many fixtures.
  package static var limits: PhysicalMemory.Limits {
    var limits = PhysicalMemory.Limits()
    limits.addressBits = 36
    return limits
  }

  /// The driver of every unit, unless the fixture has been made with `init(own:)`.
  package let driver: RecordingDriver
  package let machine: Machine
  package let client = InProcessClient()
  package let iommufd: Int32

  /// Makes a machine with the drivers of its description.
  package init(own description: MachineDescription) throws {
    driver = RecordingDriver()
    machine = try Machine(description, limits: Self.limits)
    iommufd = try client.add(machine.iommufd)
  }

  package init(_ description: MachineDescription = .builtIn) throws {
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
  package func open(_ index: Int = 0) throws -> DeviceClient {
    DeviceClient(client, try client.open(machine.devices[index].node))
  }

  /// Opens device `index` and binds it to the iommufd.
  package func bound(_ index: Int = 0) throws -> DeviceClient {
    let device = try open(index)
    let failure = device.bind(iommufd)
    guard failure == nil else { throw failure ?? .invalidArgument }
    return device
  }

  /// IOMMU_IOAS_ALLOC
  package func makeIOAS() -> UInt32 {
    var command = iommu_ioas_alloc()
    command.size = UInt32(MemoryLayout<iommu_ioas_alloc>.size)
    let failure = call(.ioasAlloc, &command)
    precondition(failure == nil)
    return command.out_ioas_id
  }

  package func map(_ memory: TestMemory, on ioas: UInt32, at iova: UInt64) -> Errno? {
    var command = iommu_ioas_map()
    command.size = UInt32(MemoryLayout<iommu_ioas_map>.size)
    command.flags = 7  // fixed, readable, writeable
    command.ioas_id = ioas
    command.user_va = memory.address
    command.length = UInt64(memory.byteCount)
    command.iova = iova
    return call(.ioasMap, &command)
  }

  package func unmap(_ length: Int, on ioas: UInt32, at iova: UInt64) -> Errno? {
    var command = iommu_ioas_unmap()
    command.size = UInt32(MemoryLayout<iommu_ioas_unmap>.size)
    command.ioas_id = ioas
    command.iova = iova
    command.length = UInt64(length)
    return call(.ioasUnmap, &command)
  }

  /// Maps a page that is filled with `byte` at `iova` of a new IOAS, and attaches `device` to the
  /// IOAS.
  package func page(
    _ byte: UInt8, at iova: UInt64, of device: DeviceClient
  ) throws -> TestMemory {
    let memory = TestMemory()
    let ioas = makeIOAS()
    memory.fill(byte)
    if let failure = map(memory, on: ioas, at: iova) ?? device.attach(ioas) { throw failure }
    return memory
  }

  private func call<T: BitwiseCopyable>(_ request: Ioctl, _ argument: inout T) -> Errno? {
    DeviceClient(client, iommufd).call(request, &argument)
  }
}

extension InProcessClient {
  package func add(_ device: any CharacterDevice) throws -> Int32 { try open(device) }
}
