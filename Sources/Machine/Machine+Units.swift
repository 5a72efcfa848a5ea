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
      case .vtd(let configuration): try description.makeVTd(unit.name, configuration, memory)
      case .smmuv3(let configuration):
        try description.makeSMMUv3(unit.name, configuration, memory)
      }
    }
  }

}

extension MachineDescription {
  /// The driver is told of every device behind the unit before anybody attaches one, as it is when
  /// the kernel enumerates the bus.
  fileprivate func makeVTd(
    _ name: String, _ configuration: VTdUnit.Configuration, _ memory: PhysicalMemory
  ) throws -> MachineUnit {
    let hardware = VTdUnit(configuration, memory: memory)
    let driver = try VTdDriver(unit: hardware, memory: memory)
    for device in devices where device.unit == name {
      try driver.probe(device.address.requester, pasidBits: device.pasidWidth)
    }
    return MachineUnit(driver: driver) { DMAPort(requester: $0, vtd: hardware) }
  }

  fileprivate func makeSMMUv3(
    _ name: String, _ configuration: SMMUv3Unit.Configuration, _ memory: PhysicalMemory
  ) throws -> MachineUnit {
    let hardware = SMMUv3Unit(configuration, memory: memory)
    let driver = try SMMUv3Driver(unit: hardware, memory: memory)
    for device in devices where device.unit == name {
      var properties = SMMUv3Driver.DeviceProperties()
      properties.pasidBits = device.pasidWidth
      try driver.probe(device.address.requester, properties)
    }
    return MachineUnit(driver: driver) { DMAPort(requester: $0, smmuv3: hardware) }
  }
}
