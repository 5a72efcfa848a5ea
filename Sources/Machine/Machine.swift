// SPDX-License-Identifier: Apache-2.0

// A machine, built from its description: physical memory, IOMMU units with their drivers, PCI
// functions, and the device nodes that a front end serves. The machine owns all of them.

package import IOMMU
package import IOMMUFD
package import PCI
package import UAPI
package import VFIO

/// A simulated machine.
package final class Machine: Sendable {
  package let description: MachineDescription
  package let memory: PhysicalMemory
  /// The device of the node `iommu`.
  package let iommufd: any CharacterDevice
  /// The devices in the order of the description.
  package let devices: [MachineDevice]
  private let units: [String: MachineUnit]

  /// - Parameter makeUnit: Makes a unit with its driver. Tests pass drivers of their own.
  /// - Throws: ``MachineError`` for a description that contradicts itself, and the errors of
  ///   `makeUnit`.
  package init(
    _ description: MachineDescription, limits: PhysicalMemory.Limits = .init(),
    makeUnit: (MachineDescription.Unit, PhysicalMemory) throws -> MachineUnit
  ) throws {
    try description.validate()
    let memory = try PhysicalMemory(
      limits, shouldFailAllocation: { FaultInjection.shouldFail() })
    var units: [String: MachineUnit] = [:]
    for unit in description.units { units[unit.name] = try makeUnit(unit, memory) }
    self.description = description
    self.memory = memory
    self.units = units
    iommufd = IOMMUFDDevice(
      memory: memory, selftest: description.hasSelftest ? Selftest(memory: memory) : nil,
      extensions: ExtensionSet(description.extensions))
    devices = try Self.makeDevices(description, units)
    for (name, unit) in units {
      let behind = zip(description.devices, devices).filter { $0.0.unit == name }
      let router = RequesterRouter(behind.map { $0.1.physical })
      unit.driver.setFaultSink { router.report($0) }
      unit.driver.setPageRequestSink { router.report($0) }
    }
  }

  /// The sinks refer to the devices, which refer to their drivers.
  deinit {
    for unit in units.values {
      unit.driver.setFaultSink(nil)
      unit.driver.setPageRequestSink(nil)
    }
  }

  /// Every device node. The first one is the iommufd's.
  package var nodes: [any CharacterDevice] { [iommufd] + devices.map { $0.node } }

  /// Returns the unit that the description calls `name`.
  package func unit(_ name: String) -> MachineUnit? { units[name] }

  private static func makeDevices(
    _ description: MachineDescription, _ units: [String: MachineUnit]
  ) throws -> [MachineDevice] {
    var groups: [Int: IOMMUGroup] = [:]
    var sets: [UInt8: DeviceSet] = [:]
    var bars = BARAllocator()
    let functionsOfBus = Dictionary(grouping: description.devices, by: \.address.bus)

    return try description.devices.enumerated().map { index, device in
      guard let unit = units[device.unit] else {
        throw MachineError("device \(device.address): there is no unit '\(device.unit)'")
      }
      let address = device.address
      let isOnRootBus = address.bus == 0
      let siblings = functionsOfBus[address.bus]?.filter { $0.address.device == address.device }
      let function = try device.makeFunction(
        isMultiFunction: (siblings?.count ?? 0) > 1, bars: &bars, unit: unit)
      let group = groups[device.group] ?? IOMMUGroup(id: device.group)
      groups[device.group] = group
      let set = (isOnRootBus ? nil : sets[address.bus]) ?? DeviceSet(isBus: !isOnRootBus)
      sets[address.bus] = set

      let usableWidth = unit.driver.usablePASIDWidth(device.pasidWidth)
      let vfio = VFIODevice(
        function,
        physical: PhysicalDevice(
          name: address.description, requesterID: address.requester, driver: unit.driver,
          group: group, pasidWidth: usableWidth ?? 0,
          refusesOtherPASIDs: device.pasidWidth > 0 && usableWidth != nil,
          firmwareRegions: device.reservedRegions),
        in: set, isAloneOnBus: functionsOfBus[address.bus]?.count == 1)
      set.add(vfio)
      return MachineDevice(
        node: VFIODeviceNode(vfio, index: index), address: address, function: function,
        physical: vfio.physical, groupID: group.id)
    }
  }
}

/// A device of a machine, with the properties that front ends and sysfs show.
package struct MachineDevice: Sendable {
  /// The device of the node `vfio/devices/vfioN`.
  package let node: VFIODeviceNode
  package let address: PCIAddress
  package let function: Function
  package let physical: PhysicalDevice
  package let groupID: Int

  package var vendorID: UInt16 { function.description.vendorID }
  package var deviceID: UInt16 { function.description.deviceID }
  /// Base class, sub-class and programming interface, as in sysfs's `class`.
  package var classCode: UInt32 { function.description.classCode }
  package var revision: UInt8 { function.description.revision }
}

/// One IOMMU unit and the kernel's driver for it.
package struct MachineUnit: Sendable {
  package let driver: any IOMMUDriver
  /// Returns the path to memory of the function with a requester ID.
  package let path: @Sendable (RequesterID) -> any DMAPath

  /// Enables in a function's configuration space what the driver uses, as the kernel does when it
  /// probes the function.
  package let enable: @Sendable (Function) -> Void

  package init(
    driver: any IOMMUDriver, path: @escaping @Sendable (RequesterID) -> any DMAPath,
    enable: @escaping @Sendable (Function) -> Void = { _ in }
  ) {
    self.driver = driver
    self.path = path
    self.enable = enable
  }
}

extension MachineDescription.Device {
  fileprivate func makeFunction(
    isMultiFunction: Bool, bars: inout BARAllocator, unit: MachineUnit
  ) throws -> Function {
    let endpoint: any Endpoint =
      switch model {
      case .atsTestDevice: ATSTestDevice()
      }
    var functionDescription = type(of: endpoint).description
    functionDescription.isMultiFunction = isMultiFunction
    functionDescription.extendedCapabilities = extendedCapabilities
    for index in functionDescription.bars.indices {
      functionDescription.bars[index].address = try bars.allocate(
        functionDescription.bars[index].size)
    }
    let function = Function(
      endpoint, description: functionDescription, at: address.requester,
      path: unit.path(address.requester))
    unit.enable(function)
    return function
  }

  /// The extended capabilities from 0x100 on, in the order of the public test device.
  private var extendedCapabilities: [FunctionDescription.Placed<ExtendedCapability>] {
    var list: [FunctionDescription.Placed<ExtendedCapability>] = []
    if hasATS { list.append(.init(.ats(queueDepth: 0), at: 0x100)) }
    if hasPageRequests { list.append(.init(.pageRequest(capacity: 2048), at: 0x110)) }
    if pasidWidth > 0 {
      let permissions =
        (canExecute ? PASIDCapability.execute : 0)
        | (canBePrivileged ? PASIDCapability.privileged : 0)
      let pasid = ExtendedCapability.pasid(width: UInt8(pasidWidth), permissions: permissions)
      list.append(.init(pasid, at: list.isEmpty ? 0x100 : 0x120))
    }
    return list
  }
}

/// Allocates addresses for BARs, as firmware does: upwards and naturally aligned.
private struct BARAllocator {
  /// Physical addresses below the I/O APIC, the local APICs and the registers of IOMMUs.
  private static let window: Range<UInt64> = 0xe000_0000..<0xfec0_0000
  private var next = window.lowerBound

  mutating func allocate(_ size: UInt64) throws -> UInt64 {
    let start = (next + size - 1) & ~(size - 1)
    guard start + size <= Self.window.upperBound else {
      throw MachineError(
        "the BARs of all devices do not fit into the memory window from 0xe0000000 to 0xfebfffff")
    }
    next = start + size
    return start
  }
}
