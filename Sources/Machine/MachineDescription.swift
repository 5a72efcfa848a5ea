// Which IOMMU units there are and which devices behind them: a value, that a machine is built from.
//
// Topology is what the address says. Bus 0 is the root complex: its devices are integrated there and
// cannot be reset together. Every other bus is below a root port of its own; functions of one device
// share its bus and are reset with it. IOMMU groups are stated, because what can be isolated from
// what is a property of ports and firmware that nothing else here depends on.

package import IOMMU
package import IOMMUFD

package struct MachineDescription: Sendable {
  package var units: [Unit]
  /// In the order of their nodes: the first is vfio0.
  package var devices: [Device]
  /// The iommufd has IOMMU_TEST_CMD, with the mock devices of the kernel's own tests.
  package var hasSelftest = false
  /// Designs that no kernel has.
  package var extensions = Extensions()

  package init(units: [Unit], devices: [Device]) {
    self.units = units
    self.devices = devices
  }

  package struct Unit: Sendable {
    package var name: String
    package var kind: Kind

    package init(name: String, kind: Kind) {
      self.name = name
      self.kind = kind
    }

    package enum Kind: Sendable {
      case vtd(VTdUnit.Configuration)
      case smmuv3(SMMUv3Unit.Configuration)
      case amdvi(AMDVi)

      /// Of a device's PASIDs, log2 of those that the kernel gives it.
      package func usablePASIDWidth(_ width: Int) -> Int {
        switch self {
        case .vtd, .smmuv3: width
        // One less than the unit has: amd: iommu_init_pci()
        case .amdvi(let amdvi): min(width, amdvi.unit.capabilities.pasidBits - 1)
        }
      }

      /// Bits of the PASIDs that requests may carry.
      var pasidWidth: Int {
        switch self {
        case .vtd(let configuration): min(configuration.capabilities.pasidBits, 20)
        case .smmuv3(let configuration): min(configuration.capabilities.substreamBits, 20)
        case .amdvi(let amdvi): amdvi.unit.capabilities.pasidBits
        }
      }
    }
  }

  /// An AMD-Vi unit, and what its driver lets guests do.
  package struct AMDVi: Sendable {
    package var unit = AMDViUnit.Configuration()
    package var guestTables = AMDViDriver.GuestTables.asKernel

    package init(guestTables: AMDViDriver.GuestTables = .asKernel) {
      self.guestTables = guestTables
    }
  }

  package struct Device: Sendable {
    package var address: PCIAddress
    package var model: Model
    /// The name of the unit that translates its DMA.
    package var unit: String
    /// Number of its IOMMU group.
    package var group: Int
    package var hasATS = false
    package var hasPageRequests = false
    /// Its transactions may stall when they fault (firmware's "dma-can-stall", for an SMMUv3).
    package var canStall = false
    /// log2 of the number of PASIDs; 0 without the capability.
    package var pasidWidth = 0
    /// Requests with PASID can ask to execute, or with privilege.
    package var canExecute = false
    package var canBePrivileged = false
    /// What firmware says the device's IOVAs are for.
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

  package enum Model: Sendable {
    /// QEMU's pcie-ats-testdev
    case atsTestDevice
  }
}

extension MachineDescription {
  /// A plain VT-d unit with two test devices that can be isolated, and a third that has two functions
  /// which cannot; and a unit with everything, for guests, with two more devices: one that translates
  /// for itself and requests pages, and one with PASIDs only. Two AMD-Vi units with a device each: what Linux
  /// does for guests there, and what its uAPI describes, for a device that has everything. And an SMMUv3 as in
  /// a Tegra241.
  package static let builtIn = MachineDescription(
    units: [
      Unit(name: "dmar0", kind: .vtd(VTdUnit.Configuration())),
      Unit(name: "dmar1", kind: .vtd(.nesting)),
      Unit(name: "smmu0", kind: .smmuv3(SMMUv3Unit.Configuration())),
      Unit(name: "amdvi0", kind: .amdvi(AMDVi())),
      Unit(name: "amdvi1", kind: .amdvi(AMDVi(guestTables: .asUAPI))),
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
