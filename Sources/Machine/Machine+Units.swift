// SPDX-License-Identifier: Apache-2.0

// The units that a description can name: the hardware, with the kernel's driver for it.

package import IOMMU
internal import IOMMUFD
internal import PCI
internal import SystemPackage

extension Machine {
  /// Builds the machine with the units of the description.
  /// - Throws: ``MachineError`` for a description that contradicts itself, `Errno` when the host
  ///   has too little memory.
  package convenience init(
    _ description: MachineDescription = .builtIn, limits: PhysicalMemory.Limits = .init()
  ) throws {
    let platform = AMDViPlatform(description.amdviCapabilities)
    try self.init(description, limits: limits) { unit, memory in
      switch unit.kind {
      case .vtd(let configuration): try description.makeVTd(unit.name, configuration, memory)
      case .smmuv3(let configuration):
        try description.makeSMMUv3(unit.name, configuration, memory)
      case .amdvi(let configuration):
        try description.makeAMDVi(unit.name, of: platform, configuration, memory)
      }
    }
  }
}

/// The driver probes every device behind the unit before a client can attach the first one, as in
/// the kernel, which enumerates the bus during boot.
extension MachineDescription {
  fileprivate func makeVTd(
    _ name: String, _ configuration: VTdUnit.Configuration, _ memory: PhysicalMemory
  ) throws -> MachineUnit {
    let hardware = VTdUnit(configuration, memory: memory)
    let driver = try VTdDriver(
      unit: hardware, memory: memory, virtualIOMMU: extensions.vtdVirtualIOMMU)
    var properties: [RequesterID: DeviceProperties] = [:]
    for device in devices where device.unit == name {
      let requester = device.address.requester
      properties[requester] = try driver.probe(requester, device.properties)
    }
    let enabled = properties
    return MachineUnit(
      driver: driver, path: { DMAPort(requester: $0, vtd: hardware) },
      enable: { function in
        if let properties = enabled[function.requester] { function.enable(properties) }
      })
  }

  fileprivate func makeSMMUv3(
    _ name: String, _ configuration: SMMUv3Unit.Configuration, _ memory: PhysicalMemory
  ) throws -> MachineUnit {
    let hardware = SMMUv3Unit(configuration, memory: memory)
    let driver = try SMMUv3Driver(unit: hardware, memory: memory)
    var stalling: Set<RequesterID> = []
    for device in devices where device.unit == name {
      let properties = try driver.probe(device.address.requester, device.properties)
      if properties.canStall { stalling.insert(device.address.requester) }
    }
    let canStall = stalling
    return MachineUnit(
      driver: driver,
      path: { DMAPort(requester: $0, smmuv3: hardware, canStall: canStall.contains($0)) },
      enable: { function in
        // arm-smmu-v3: arm_smmu_enable_pasid()
        function.enablePASID()
        // Attached page tables determine whether ATS is enabled (arm-smmu-v3:
        // arm_smmu_enable_ats()).
        driver.setServiceControl(of: function.requester) { function.setServices($0) }
      })
  }

  fileprivate func makeAMDVi(
    _ name: String, of platform: AMDViPlatform, _ configuration: AMDViDriver.Configuration,
    _ memory: PhysicalMemory
  ) throws -> MachineUnit {
    let behind = devices.filter { $0.unit == name }
    let hardware = AMDViUnit(configuration.unit, memory: memory)
    let driver = try AMDViDriver(
      unit: hardware, of: platform,
      lastDevice: behind.map(\.address.requester).max() ?? RequesterID(rawValue: 0),
      guestTableInterface: configuration.guestTableInterface, memory: memory)
    for device in behind { try driver.probe(device.address.requester, device.properties) }
    return MachineUnit(
      driver: driver, path: { DMAPort(requester: $0, amdvi: hardware) },
      enable: { function in
        // amd: pdev_enable_cap_pasid()
        function.enablePASID()
        // Attached page tables determine which services are enabled (amd: pdev_enable_caps(),
        // pdev_disable_caps()).
        driver.setServiceControl(of: function.requester) { function.setServices($0) }
      })
  }
}

extension MachineDescription.Device {
  /// What the device's capabilities and firmware say.
  fileprivate var properties: DeviceProperties {
    var properties = DeviceProperties(pasidBits: pasidWidth)
    properties.canExecute = canExecute
    properties.canBePrivileged = canBePrivileged
    properties.hasATS = hasATS
    properties.hasPageRequests = hasPageRequests
    properties.canStall = canStall
    return properties
  }
}

extension Function {
  /// The value of Outstanding Page Request Allocation.
  private static let pageRequestAllocation: UInt32 = 32

  /// Enables what the intel driver enables when it probes the function. PASIDs come first, because
  /// the behaviour of a function is undefined when PASIDs are enabled after ATS (intel:
  /// intel_iommu_probe_finalize()).
  fileprivate func enable(_ properties: DeviceProperties) {
    if properties.pasidBits > 0 { enablePASID() }
    if properties.hasATS { enableATS() }
    if properties.hasPageRequests { enablePageRequests(allocation: Self.pageRequestAllocation) }
  }

  /// Enables the given services and disables the others.
  fileprivate func setServices(_ services: TranslationServices) {
    if services.contains(.ats) { enableATS() } else { disableATS() }
    if services.contains(.pageRequests) {
      enablePageRequests(allocation: Self.pageRequestAllocation)
    } else {
      disablePageRequests()
    }
  }
}
