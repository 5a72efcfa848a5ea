// SPDX-License-Identifier: Apache-2.0

import CUAPI
import IOMMU
import IOMMUFD
import Machine
import TestSupport
import UAPI

// What a client learns of the device and of its IOAS before it maps anything.
extension ExercisedDevice {
  /// Compares IOAS_IOVA_RANGES and GET_HW_INFO with the description, while the device is attached
  /// to `ioas`.
  func propertyProblems(_ device: UInt32, _ ioas: UInt32) -> [String] {
    apertureProblems(ioas) + informationProblems(device)
  }

  private func apertureProblems(_ ioas: UInt32) -> [String] {
    let ranges = TestMemory()
    var command = iommu_ioas_iova_ranges()
    command.size = UInt32(MemoryLayout<iommu_ioas_iova_ranges>.size)
    command.ioas_id = ioas
    command.num_iovas = 64
    command.allowed_iovas = ranges.address
    let failure = DeviceClient(fixture.client, fixture.iommufd).call(.ioasIOVARanges, &command)
    guard failure == nil, command.num_iovas > 0 else {
      return unexpected(failure, nil, "IOAS_IOVA_RANGES")
    }
    let last = ranges.load(UInt64.self, at: Int(command.num_iovas) * 16 - 8)
    let isReserved = description.reservedRegions.contains { $0.range.contains(last &+ 1) }
    guard last == aperture || isReserved, command.out_iova_alignment == 4096 else {
      let hex = String(last, radix: 16)
      return ["the last IOVA is 0x\(hex), the alignment \(command.out_iova_alignment)"]
    }
    return []
  }

  /// The last IOVA of a page table that an attach to an IOAS makes.
  private var aperture: UInt64 {
    let bits =
      switch kind {
      case .vtd(let unit): Self.addressBits(unit.capabilities)
      case .smmuv3(let unit):
        unit.capabilities.stage1 ? 48 : max(36, Self.encodedSize(unit.capabilities))
      case .amdvi: min(64, 12 + 9 * amdFeatures.hostLevels)
      }
    return bits >= 64 ? .max : 1 << UInt64(bits) - 1
  }

  /// intel: compute_vasz_lg2_fs(), compute_vasz_lg2_ss(). A first stage sign-extends addresses.
  private static func addressBits(_ unit: VTdCapabilities) -> Int {
    let width = unit.maximumGuestAddressWidth
    if unit.firstStage { return min(unit.fiveLevelFirstStage ? 57 : 48, width) - 1 }
    let levels = (unit.secondStageLevels.max() ?? 0) * 9 + 12
    return min(width, levels)
  }

  /// IDR5.OAS: the smallest size that can be encoded.
  private static func encodedSize(_ unit: SMMUv3Capabilities) -> Int {
    [32, 36, 40, 42, 44, 48].first { $0 >= unit.outputAddressBits } ?? 48
  }

  private func informationProblems(_ device: UInt32) -> [String] {
    // The struct has a union, which Swift does not copy bitwise: dev_id is at 8, out_max_pasid_log2
    // at 28, out_capabilities at 32.
    let command = TestMemory()
    command.store([UInt32(40), 0, device] as InlineArray<3, UInt32>)
    let failure = DeviceClient(fixture.client, fixture.iommufd)
      .ioctl(.getHardwareInfo, command.address)
    guard failure == nil else { return unexpected(failure, nil, "GET_HW_INFO") }
    let capabilities = command.load(UInt64.self, at: 32)
    let bits = Int(command.load(UInt8.self, at: 28))
    var problems: [String] = []
    func check(_ flag: iommufd_hw_capabilities, _ expected: Bool, _ what: String) {
      let isSet = capabilities & UInt64(flag.rawValue) != 0
      guard isSet != expected else { return }
      problems.append("device of \(description.unit): \(what) is not \(expected)")
    }
    check(IOMMU_HW_CAP_DIRTY_TRACKING, tracksDirty, "dirty tracking")
    check(IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED, !usesATS, "no ATS")
    check(
      IOMMU_HW_CAP_PCI_PASID_EXEC, reportsPermissions && description.canExecute,
      "PASID execute permission")
    check(
      IOMMU_HW_CAP_PCI_PASID_PRIV, reportsPermissions && description.canBePrivileged,
      "PASID privileged permission")
    if bits != pasidBits {
      problems.append("out_max_pasid_log2 is \(bits), not \(pasidBits)")
    }
    return problems
  }

  /// The PASID permissions that the driver enables. AMD's enables none
  /// (amd: pdev_enable_cap_pasid()).
  private var reportsPermissions: Bool {
    switch kind {
    case .vtd(let unit): description.pasidWidth > 0 && unit.capabilities.pasidBits > 0
    case .smmuv3: description.pasidWidth > 0
    case .amdvi: false
    }
  }

  private var tracksDirty: Bool {
    switch kind {
    case .vtd(let unit): unit.capabilities.secondStageFlags
    case .smmuv3(let unit): unit.capabilities.updatesDirtyState
    case .amdvi(let configuration): configuration.unit.capabilities.hostFlags
    }
  }

  private var usesATS: Bool {
    switch kind {
    case .vtd(let unit): return description.hasATS && unit.capabilities.deviceTLBs
    case .smmuv3(let unit): return description.hasATS && unit.capabilities.ats
    case .amdvi:
      // amd: pdev_get_caps() is called for units with all that PASIDs need.
      return description.hasATS && amdFeatures.deviceTLBs && amdFeatures.hasPASIDs
    }
  }

  private var pasidBits: Int {
    switch kind {
    case .vtd(let unit): return min(description.pasidWidth, unit.capabilities.pasidBits)
    case .smmuv3(let unit): return min(description.pasidWidth, unit.capabilities.substreamBits)
    case .amdvi:
      return amdFeatures.translatesGuests
        ? min(description.pasidWidth, amdFeatures.pasidBits - 1) : 0
    }
  }

  var amdFeatures: AMDCommonFeatures { AMDCommonFeatures(of: fixture.machine.description) }
}
