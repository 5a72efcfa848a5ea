// The units a description can name, as hardware with the kernel's driver in front of it.

package import IOMMU
internal import IOMMUFD
internal import SystemPackage

extension Machine {
  /// - Throws: ``MachineError`` for a description that contradicts itself, `Errno` when the host is
  ///   short of memory.
  package convenience init(
    _ description: MachineDescription = .builtIn, limits: PhysicalMemory.Limits = .init()
  ) throws {
    try self.init(description, limits: limits) { unit, memory in
      switch unit.kind {
      case .vtd: try Self.makeVTd(description, unit, memory)
      }
    }
  }

  /// The driver is told of every device behind the unit before anybody attaches one, as it is when
  /// the kernel enumerates the bus.
  private static func makeVTd(
    _ description: MachineDescription, _ unit: MachineDescription.Unit, _ memory: PhysicalMemory
  ) throws -> MachineUnit {
    let hardware = VTdUnit(VTdUnit.Configuration(), memory: memory)
    let driver = try VTdDriver(unit: hardware, memory: memory)
    for device in description.devices where device.unit == unit.name {
      try driver.probe(device.address.requester, pasidBits: device.pasidWidth)
    }
    return MachineUnit(driver: driver) { DMAPort(requester: $0, vtd: hardware) }
  }
}
