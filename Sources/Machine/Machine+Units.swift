// The units a description can name, as hardware with the kernel's driver in front of it.

package import IOMMU
internal import IOMMUFD
internal import PCI
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
      case .amdvi(let amdvi): try description.makeAMDVi(unit.name, amdvi, memory)
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
    let driver = try VTdDriver(
      unit: hardware, memory: memory, virtualIOMMU: extensions.vtdVirtualIOMMU)
    var services: [RequesterID: VTdDeviceServices] = [:]
    for device in devices where device.unit == name {
      let requester = device.address.requester
      services[requester] = try driver.probe(requester, VTdDeviceServices(of: device))
    }
    let enabled = services
    return MachineUnit(
      driver: driver, path: { DMAPort(requester: $0, vtd: hardware) },
      enable: { function in enabled[function.requester]?.enable(on: function) })
  }

  fileprivate func makeSMMUv3(
    _ name: String, _ configuration: SMMUv3Unit.Configuration, _ memory: PhysicalMemory
  ) throws -> MachineUnit {
    let hardware = SMMUv3Unit(configuration, memory: memory)
    let driver = try SMMUv3Driver(unit: hardware, memory: memory)
    var stalling: Set<RequesterID> = []
    for device in devices where device.unit == name {
      var properties = SMMUv3Driver.DeviceProperties()
      properties.pasidBits = device.pasidWidth
      properties.canStall = device.canStall
      properties.hasATS = device.hasATS
      try driver.probe(device.address.requester, properties)
      if device.canStall { stalling.insert(device.address.requester) }
    }
    let canStall = stalling
    // arm-smmu-v3: arm_smmu_enable_pasid()
    return MachineUnit(
      driver: driver,
      path: { DMAPort(requester: $0, smmuv3: hardware, canStall: canStall.contains($0)) },
      enable: { function in
        function.enablePASID()
        // Attached tables decide. arm-smmu-v3: arm_smmu_enable_ats()
        driver.setATSControl(of: function.requester) { isOn in
          if isOn { function.enableATS() } else { function.disableATS() }
        }
      })
  }

  fileprivate func makeAMDVi(
    _ name: String, _ description: AMDVi, _ memory: PhysicalMemory
  ) throws -> MachineUnit {
    let behind = devices.filter { $0.unit == name }
    let hardware = AMDViUnit(description.unit, memory: memory)
    let driver = try AMDViDriver(
      unit: hardware,
      lastDevice: behind.map(\.address.requester).max() ?? RequesterID(rawValue: 0),
      guestTables: description.guestTables, memory: memory)
    for device in behind {
      var properties = AMDViDeviceProperties()
      properties.pasidBits = device.pasidWidth
      properties.hasATS = device.hasATS
      properties.hasPageRequests = device.hasPageRequests
      try driver.probe(device.address.requester, properties)
    }
    return MachineUnit(
      driver: driver, path: { DMAPort(requester: $0, amdvi: hardware) },
      enable: { function in
        // amd: pdev_enable_cap_pasid()
        function.enablePASID()
        // Attached tables decide. amd: pdev_enable_caps(), pdev_disable_caps()
        driver.setControl(of: function.requester) { ats, pageRequests in
          if ats { function.enableATS() } else { function.disableATS() }
          if pageRequests {
            function.enablePageRequests(allocation: 32)
          } else {
            function.disablePageRequests()
          }
        }
      })
  }
}

extension VTdDeviceServices {
  /// What the device's capabilities say.
  fileprivate init(of device: MachineDescription.Device) {
    self.init()
    pasidBits = device.pasidWidth
    canExecute = device.canExecute
    canBePrivileged = device.canBePrivileged
    hasATS = device.hasATS
    hasPageRequests = device.hasPageRequests
  }

  /// PASIDs first: what a function does otherwise is undefined. intel: intel_iommu_probe_finalize()
  fileprivate func enable(on function: Function) {
    if pasidBits > 0 { function.enablePASID() }
    if hasATS { function.enableATS() }
    if hasPageRequests { function.enablePageRequests(allocation: 32) }
  }
}
