// SPDX-License-Identifier: Apache-2.0

// The rules that a machine description must follow as a whole. Errors use the keys of the YAML
// form.

internal import IOMMU
internal import IOMMUFD

extension MachineDescription {
  /// Checks every rule.
  /// - Throws: The first contradiction.
  package func validate() throws(MachineError) {
    var kinds: [String: Unit.Kind] = [:]
    for (index, unit) in units.enumerated() {
      let subject = MachineError.Subject.unit(index)
      guard kinds.updateValue(unit.kind, forKey: unit.name) == nil else {
        throw MachineError("unit '\(unit.name)': two units have this name", of: subject)
      }
      guard let contradiction = unit.kind.contradiction else { continue }
      throw MachineError("unit '\(unit.name)': \(contradiction)", of: subject)
    }
    var addresses: Set<PCIAddress> = []
    for (index, device) in devices.enumerated() {
      let subject = MachineError.Subject.device(index)
      guard addresses.insert(device.address).inserted else {
        throw MachineError("device \(device.address): two devices have this address", of: subject)
      }
      guard let kind = kinds[device.unit] else {
        throw MachineError(
          "device \(device.address): there is no unit '\(device.unit)'", of: subject)
      }
      guard let contradiction = device.contradiction(behind: kind) else { continue }
      throw MachineError("device \(device.address): \(contradiction)", of: subject)
    }
    try validateBuses()
    try validateGroups()
    try validateCommonFeatures()
  }

  /// The capabilities of the units of kind amdvi.
  var amdviCapabilities: [AMDViCapabilities] {
    units.compactMap {
      if case .amdvi(let configuration) = $0.kind { configuration.unit.capabilities } else { nil }
    }
  }

  /// Checks the features that units of kind amdvi have in common, because Linux uses no others
  /// (amd: get_global_efr()).
  private func validateCommonFeatures() throws(MachineError) {
    let last = units.lastIndex { if case .amdvi = $0.kind { true } else { false } }
    guard let last else { return }
    let common = AMDViCapabilities(common: amdviCapabilities)
    guard let contradiction = common.contradiction else { return }
    throw MachineError(
      "the features that all units of kind amdvi have in common: \(contradiction)",
      of: .unit(last))
  }

  /// Checks that the devices of a group are behind one unit: they are a group because they share a
  /// path to memory, and a unit is at the end of the path.
  private func validateGroups() throws(MachineError) {
    var units: [Int: String] = [:]
    for (index, device) in devices.enumerated() {
      guard let unit = units.updateValue(device.unit, forKey: device.group), unit != device.unit
      else { continue }
      throw MachineError(
        "device \(device.address): 'group' \(device.group) has devices behind unit '\(unit)' and "
          + "behind unit '\(device.unit)'", of: .device(index))
    }
  }

  /// Checks the buses below root ports: each has one device with the number 0 (PCIe §7.3.1), and
  /// the device has a function 0.
  private func validateBuses() throws(MachineError) {
    for (index, device) in devices.enumerated() where device.address.bus != 0 {
      let bus = device.address.bus
      guard device.address.device == 0 else {
        throw MachineError(
          "device \(device.address): 'address' must have device 0, because a bus other than 0 is below "
            + "a root port and has only device 0",
          of: .device(index))
      }
      guard devices.contains(where: { $0.address.bus == bus && $0.address.function == 0 }) else {
        throw MachineError(
          "device \(device.address): 'address' has function \(device.address.function), but a PCI "
            + "device must have a function 0, and bus \(bus) has none",
          of: .device(index))
      }
    }
  }
}

extension MachineDescription.Device {
  fileprivate func contradiction(behind kind: MachineDescription.Unit.Kind) -> String? {
    guard (0...20).contains(pasidWidth) else {
      return "'pasid-bits' is \(pasidWidth), but a PASID has at most 20 bits"
    }
    guard !hasPageRequests || hasATS else { return "'page-requests' requires 'ats'" }
    if canStall {
      guard case .smmuv3 = kind else { return "'stalls' requires a unit of kind smmuv3" }
    }
    if hasATS, case .smmuv3(let configuration) = kind, configuration.capabilities.ats {
      // Arm IHI 0070 §5.2: a stream table entry with EATS and S2S is ILLEGAL.
      switch configuration.capabilities.stallModel {
      case .configurable where canStall:
        return "'ats' and 'stalls' exclude each other, because unit '\(unit)' has 'ats'"
      case .stall:
        return "'ats' requires that the transactions of the device do not stall, but unit "
          + "'\(unit)' has the 'stall-model' stall"
      default: break
      }
    }
    guard address.segment == 0 else {
      return "'address' has segment \(address.segment), but the machine has only segment 0"
    }
    if case .smmuv3 = kind, reservedRegions.contains(where: { $0.kind == .msi }) {
      // iommufd: iopt_table_enforce_dev_resv_regions() refuses to attach such a device.
      return
        "'reserved-regions' of kind msi exclude a unit of kind smmuv3, whose driver chooses the "
        + "MSI window"
    }
    for (index, region) in reservedRegions.enumerated()
    where reservedRegions[..<index].contains(where: { $0.range.overlaps(region.range) }) {
      return "two of its 'reserved-regions' overlap"
    }
    return nil
  }
}

extension MachineDescription.Unit.Kind {
  fileprivate var contradiction: String? {
    switch self {
    case .vtd(let configuration): configuration.capabilities.contradiction
    case .smmuv3(let configuration):
      configuration.capabilities.contradiction ?? configuration.virtualQueues.contradiction
    case .amdvi(let configuration): configuration.unit.capabilities.contradiction
    }
  }
}

extension VTdCapabilities {
  fileprivate var contradiction: String? {
    guard domainBits % 2 == 0 else {
      return "'domain-bits' must be even, because CAP.ND has no odd value"
    }
    guard firstStage || secondStage else {
      return "'first-stage' or 'second-stage' must be true"
    }
    guard !secondStage || !secondStageLevels.isEmpty else {
      return "'second-stage' requires at least one number in 'second-stage-levels'"
    }
    // intel: iommu_calculate_agaw(). The kernel ignores a unit whose two stages have no number of
    // levels in common.
    let firstStageLevels: Set<Int> = fiveLevelFirstStage ? [4, 5] : [4]
    guard !firstStage || !secondStage || !secondStageLevels.isDisjoint(with: firstStageLevels)
    else {
      return "'second-stage-levels' must have \(fiveLevelFirstStage ? "4 or 5" : "4"), because "
        + "Linux uses a unit with 'first-stage' only if both stages can have the same levels"
    }
    guard !nested || firstStage && secondStage else {
      return "'nested' requires 'first-stage' and 'second-stage'"
    }
    guard firstStage || !fiveLevelFirstStage && !firstStage1GPages && !extendedAccessedFlag else {
      return "'five-levels', 'first-stage-1g' and 'extended-accessed' require 'first-stage'"
    }
    guard !pageRequests || deviceTLBs else { return "'page-requests' requires 'device-tlbs'" }
    guard pasidBits > 0 || !privilegedRequests else {
      return "'privileged-requests' requires 'pasid-bits' above 0"
    }
    return nil
  }
}

extension SMMUv3Capabilities {
  /// arm-smmu-v3: arm_smmu_init_strtab_linear() allocates the table in one piece. 64 MiB, the
  /// default size of the contiguous memory of an arm64 kernel, have entries for 20 bits.
  private static let largestLinearStreamBits = 20

  fileprivate var contradiction: String? {
    guard stage1 || stage2 else { return "'stage-1' or 'stage-2' must be true" }
    guard !updatesDirtyState || updatesAccessFlag else {
      return "'dirty-updates' requires 'access-flag-updates'"
    }
    guard twoLevelStreamTable || streamBits <= Self.largestLinearStreamBits else {
      return "'stream-bits' is \(streamBits), but a stream table without 'two-level-streams' has "
        + "at most \(Self.largestLinearStreamBits) bits"
    }
    return nil
  }
}

extension VirtualQueueCapabilities {
  fileprivate var contradiction: String? {
    guard queueBitsPerInterface >= 0 else {
      return "'cmdqv-queue-bits' must not be less than 'cmdqv-interface-bits', because each "
        + "interface has at least one queue"
    }
    return nil
  }
}

extension AMDViCapabilities {
  fileprivate var contradiction: String? {
    guard !guestIO || guestTranslation else { return "'guest-io' requires 'guest-translation'" }
    // amd: setup_gcr3_table() refuses every device with so many PASIDs.
    let width = 9 * (guestCR3Levels + 1)
    guard !guestTranslation || pasidBits <= width else {
      return "'pasid-bits' is \(pasidBits), but GCR3 tables with \(guestCR3Levels) "
        + "'guest-cr3-levels' have PASIDs of \(width) bits"
    }
    return nil
  }
}
