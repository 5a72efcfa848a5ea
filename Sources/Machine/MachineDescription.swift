// SPDX-License-Identifier: Apache-2.0

// The description of a machine: its IOMMU units and the devices behind them. `Machine` is built
// from it.
//
// A device's PCI address determines the topology. Bus 0 is in the root complex: its devices are
// integrated endpoints, which cannot be reset together. Every other bus is below a root port of its
// own. The functions of a device share its bus and are reset together. The description states IOMMU
// groups, because they depend on properties of ports and firmware that the machine does not
// simulate.

package import IOMMU
package import IOMMUFD

/// The units and the devices of a machine.
package struct MachineDescription: Sendable {
  package var units: [Unit]
  /// The devices in the order of their nodes: the first one is vfio0.
  package var devices: [Device]
  /// Whether the iommufd has the selftest interface (IOMMU_TEST_CMD) with its mock devices.
  package var hasSelftest = false
  /// Interfaces that were proposed for Linux and never merged.
  package var extensions = Extensions()

  package init(units: [Unit], devices: [Device]) {
    self.units = units
    self.devices = devices
  }

  /// An IOMMU unit.
  package struct Unit: Sendable {
    /// The name by which devices refer to the unit.
    package var name: String
    package var kind: Kind

    package init(name: String, kind: Kind) {
      self.name = name
      self.kind = kind
    }

    /// The architecture of a unit, with the unit's configuration.
    package enum Kind: Sendable {
      case vtd(VTdUnit.Configuration)
      case smmuv3(SMMUv3Unit.Configuration)
      case amdvi(AMDViDriver.Configuration)
    }
  }

  /// A PCI function.
  package struct Device: Sendable {
    package var address: PCIAddress
    package var model: Model
    /// The name of the unit that translates its DMA.
    package var unit: String
    /// The number of the device's IOMMU group.
    package var group: Int
    package var hasATS = false
    package var hasPageRequests = false
    /// Whether transactions of the device can stall when they fault ("dma-can-stall" in firmware).
    /// Only a device behind an SMMUv3 can.
    package var canStall = false
    /// log2 of the number of PASIDs. 0 without a PASID capability.
    package var pasidWidth = 0
    /// Whether requests with a PASID can have execute permission.
    package var canExecute = false
    /// Whether requests with a PASID can have privileged permission.
    package var canBePrivileged = false
    /// The IOVA ranges that firmware reserves for the device.
    package var reservedRegions: [ReservedRegion] = []

    package init(
      _ address: PCIAddress, _ model: Model, unit: String, group: Int, pasidWidth: Int = 0,
      hasATS: Bool = false, hasPageRequests: Bool = false, canStall: Bool = false
    ) {
      self.address = address
      self.model = model
      self.unit = unit
      self.group = group
      self.pasidWidth = pasidWidth
      self.hasATS = hasATS
      self.hasPageRequests = hasPageRequests
      self.canStall = canStall
      canExecute = pasidWidth > 0
      canBePrivileged = pasidWidth > 0
    }
  }

  /// An endpoint model.
  package enum Model: Sendable {
    /// QEMU's pcie-ats-testdev
    case atsTestDevice
  }
}

extension MachineDescription {
  /// The machine without a description file. All its devices are test devices.
  ///
  /// - `dmar0`: a VT-d unit with second-stage tables only. Two devices with groups of their own,
  ///   and a device with two functions that share a group.
  /// - `dmar1`: a VT-d unit with every feature. One device with ATS, page requests and PASIDs, one
  ///   with PASIDs only.
  /// - `smmu0`: an SMMUv3. One device with PASIDs, one whose transactions can stall.
  /// - `amdvi0`: an AMD-Vi unit that answers for guest page tables as Linux 7.3 does. One device
  ///   with PASIDs.
  /// - `amdvi1`: an AMD-Vi unit with guest page tables as the uAPI describes them. One device with
  ///   ATS, page requests and PASIDs.
  /// - `smmu1`: an SMMUv3 as in a Tegra241. One device with ATS and PASIDs.
  package static let builtIn = MachineDescription(
    units: [
      Unit(name: "dmar0", kind: .vtd(VTdUnit.Configuration())),
      Unit(name: "dmar1", kind: .vtd(.nesting)),
      Unit(name: "smmu0", kind: .smmuv3(SMMUv3Unit.Configuration())),
      Unit(name: "amdvi0", kind: .amdvi(AMDViDriver.Configuration())),
      Unit(
        name: "amdvi1",
        kind: .amdvi(AMDViDriver.Configuration(guestTableInterface: .uapi))),
      Unit(name: "smmu1", kind: .smmuv3(.tegra241)),
    ],
    devices: [
      Device(PCIAddress(bus: 1), .atsTestDevice, unit: "dmar0", group: 1),
      Device(PCIAddress(bus: 2), .atsTestDevice, unit: "dmar0", group: 2),
      Device(PCIAddress(bus: 3), .atsTestDevice, unit: "dmar0", group: 3),
      Device(PCIAddress(bus: 3, function: 1), .atsTestDevice, unit: "dmar0", group: 3),
      Device(
        PCIAddress(bus: 4), .atsTestDevice, unit: "dmar1", group: 4, pasidWidth: 20, hasATS: true,
        hasPageRequests: true),
      Device(PCIAddress(bus: 5), .atsTestDevice, unit: "dmar1", group: 5, pasidWidth: 20),
      Device(PCIAddress(bus: 6), .atsTestDevice, unit: "smmu0", group: 6, pasidWidth: 16),
      Device(PCIAddress(bus: 7), .atsTestDevice, unit: "smmu0", group: 7, canStall: true),
      Device(PCIAddress(bus: 8), .atsTestDevice, unit: "amdvi0", group: 8, pasidWidth: 16),
      Device(
        PCIAddress(bus: 9), .atsTestDevice, unit: "amdvi1", group: 9, pasidWidth: 16, hasATS: true,
        hasPageRequests: true),
      Device(
        PCIAddress(bus: 10), .atsTestDevice, unit: "smmu1", group: 10, pasidWidth: 16,
        hasATS: true),
    ])
}
