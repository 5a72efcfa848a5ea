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
  }

  /// Checks the buses below root ports: each has one device with the number 0 (PCIe §7.3.1), and
  /// the device has a function 0.
  private func validateBuses() throws(MachineError) {
    for (index, device) in devices.enumerated() where device.address.bus != 0 {
      let bus = device.address.bus
      guard device.address.device == 0 else {
        throw MachineError(
          "device \(device.address): a bus other than 0 is below a root port and has only device 0",
          of: .device(index))
      }
      guard devices.contains(where: { $0.address.bus == bus && $0.address.function == 0 }) else {
        throw MachineError(
          "device \(device.address): a PCI device must have a function 0, and bus \(bus) has none",
          of: .device(index))
      }
    }
  }
}

extension MachineDescription.Device {
  fileprivate func contradiction(behind kind: MachineDescription.Unit.Kind) -> String? {
    guard (0...kind.pasidWidth).contains(pasidWidth) else {
      return "'pasid-bits' is \(pasidWidth), but unit '\(unit)' has PASIDs of up to "
        + "\(kind.pasidWidth) bits"
    }
    guard !hasPageRequests || hasATS else { return "'page-requests' requires 'ats'" }
    if canStall {
      guard case .smmuv3 = kind else { return "'stalls' requires a unit of kind smmuv3" }
    }
    guard address.segment == 0 else {
      return "'address' has segment \(address.segment), but the machine has only segment 0"
    }
    for (index, region) in reservedRegions.enumerated()
    where reservedRegions[..<index].contains(where: { $0.range.overlaps(region.range) }) {
      return "two of its 'reserved-regions' overlap"
    }
    return nil
  }
}

extension MachineDescription.Unit.Kind {
  /// Bits of the PASIDs in requests that the unit supports.
  fileprivate var pasidWidth: Int {
    switch self {
    case .vtd(let configuration): min(configuration.capabilities.pasidBits, 20)
    case .smmuv3(let configuration): min(configuration.capabilities.substreamBits, 20)
    case .amdvi(let configuration): configuration.unit.capabilities.pasidBits
    }
  }

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
    guard let levels = secondStageLevels.max() else {
      return "'second-stage-levels' must have at least one number"
    }
    let width = 12 + 9 * levels
    guard maximumGuestAddressWidth <= width else {
      return "'address-width' is \(maximumGuestAddressWidth), but second-stage tables of "
        + "\(levels) levels translate addresses of \(width) bits"
    }
    guard firstStage || secondStage else {
      return "'first-stage' or 'second-stage' must be true"
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
  fileprivate var contradiction: String? {
    guard stage1 || stage2 else { return "'stage-1' or 'stage-2' must be true" }
    guard !updatesDirtyState || updatesAccessFlag else {
      return "'dirty-updates' requires 'access-flag-updates'"
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
