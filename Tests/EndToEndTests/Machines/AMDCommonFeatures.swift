// SPDX-License-Identifier: Apache-2.0

import IOMMU
import IOMMUFD
import Machine

/// The features that Linux uses of the AMD-Vi units of a machine: the bits that the extended
/// feature registers of all units have in common (amd: get_global_efr()).
struct AMDCommonFeatures {
  /// EFR and EFR2.
  private var registers: (UInt64, UInt64) = (.max, .max)
  /// amd: amd_iommu_iotlb_sup
  private(set) var deviceTLBs = true

  init(of machine: MachineDescription) {
    for unit in machine.units {
      guard case .amdvi(let configuration) = unit.kind else { continue }
      let capabilities = configuration.unit.capabilities
      registers.0 &= capabilities.features
      registers.1 &= capabilities.features2
      deviceTLBs = deviceTLBs && capabilities.deviceTLBs
    }
  }

  private func field(_ shift: Int, _ bits: Int) -> Int {
    Int(registers.0 >> UInt64(shift)) & (1 << bits - 1)
  }

  /// HATS
  var hostLevels: Int { 4 + field(10, 2) }
  /// GTSup
  var translatesGuests: Bool { field(4, 1) == 1 }
  /// PASmax
  var pasidBits: Int { 1 + field(32, 5) }
  /// PPRSup, GTSup, GIoSup and EPHSup
  var hasPASIDs: Bool { field(1, 1) & field(4, 1) & field(48, 1) & field(50, 1) == 1 }
  /// GTSup, GIoSup and GCR3TRPMode
  var canNest: Bool { field(4, 1) & field(48, 1) == 1 && registers.1 & 1 << 3 != 0 }
}
