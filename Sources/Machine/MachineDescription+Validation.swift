// Whether a description makes sense as a whole.

internal import IOMMU
internal import IOMMUFD

extension MachineDescription {
  /// - Throws: the first contradiction, in the words of the description.
  package func validate() throws(MachineError) {
    var kinds: [String: Unit.Kind] = [:]
    for (index, unit) in units.enumerated() {
      guard kinds.updateValue(unit.kind, forKey: unit.name) == nil else {
        throw MachineError("two units are named '\(unit.name)'", of: .unit(index))
      }
      guard let contradiction = unit.kind.contradiction else { continue }
      throw MachineError("\(unit.name): \(contradiction)", of: .unit(index))
    }
    var addresses: Set<PCIAddress> = []
    for (index, device) in devices.enumerated() {
      let subject = MachineError.Subject.device(index)
      guard addresses.insert(device.address).inserted else {
        throw MachineError("two devices are at \(device.address)", of: subject)
      }
      guard let kind = kinds[device.unit] else {
        throw MachineError(
          "\(device.address): there is no unit '\(device.unit)'", of: subject)
      }
      guard let contradiction = device.contradiction(behind: kind) else { continue }
      throw MachineError("\(device.address): \(contradiction)", of: subject)
    }
    try validateBuses()
  }

  /// Below a port there is one device, number 0 (PCIe §7.3.1), and it has a function 0.
  private func validateBuses() throws(MachineError) {
    for (index, device) in devices.enumerated() where device.address.bus != 0 {
      let bus = device.address.bus
      guard device.address.device == 0 else {
        throw MachineError(
          "\(device.address): below a port there is only device 0", of: .device(index))
      }
      guard devices.contains(where: { $0.address.bus == bus && $0.address.function == 0 }) else {
        throw MachineError(
          "\(device.address): a device has a function 0, and bus \(bus) has none",
          of: .device(index))
      }
    }
  }
}

extension MachineDescription.Device {
  fileprivate func contradiction(behind kind: MachineDescription.Unit.Kind) -> String? {
    guard (0...kind.pasidWidth).contains(pasidWidth) else {
      return "its unit has PASIDs of up to \(kind.pasidWidth) bits, not \(pasidWidth)"
    }
    guard !hasPageRequests || hasATS else { return "page requests need ATS" }
    if canStall {
      guard case .smmuv3 = kind else { return "only an SMMUv3 has transactions wait" }
    }
    guard address.segment == 0 else { return "there is only segment 0" }
    for (index, region) in reservedRegions.enumerated()
    where reservedRegions[..<index].contains(where: { $0.range.overlaps(region.range) }) {
      return "two of its reserved regions overlap"
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
    case .amdvi(let amdvi): amdvi.unit.capabilities.contradiction
    }
  }
}

extension VTdCapabilities {
  fileprivate var contradiction: String? {
    guard domainBits % 2 == 0 else { return "domains have an even number of bits" }
    guard let levels = secondStageLevels.max() else { return "second-stage tables have levels" }
    let width = 12 + 9 * levels
    guard maximumGuestAddressWidth <= width else {
      return "addresses of \(maximumGuestAddressWidth) bits do not fit tables of \(levels) levels"
    }
    guard firstStage || secondStage else { return "it has neither stage" }
    guard !nested || firstStage && secondStage else { return "nesting needs both stages" }
    guard firstStage || !fiveLevelFirstStage && !firstStage1GPages && !extendedAccessedFlag else {
      return "properties of first-stage tables need first-stage tables"
    }
    guard !pageRequests || deviceTLBs else { return "page requests need device TLBs" }
    guard pasidBits > 0 || !privilegedRequests else { return "privilege needs PASIDs" }
    return nil
  }
}

extension SMMUv3Capabilities {
  fileprivate var contradiction: String? {
    guard stage1 || stage2 else { return "it has neither stage" }
    guard !updatesDirtyState || updatesAccessFlag else {
      return "dirty updates need access flag updates"
    }
    return nil
  }
}

extension VirtualQueueCapabilities {
  fileprivate var contradiction: String? {
    guard queueBitsPerInterface >= 0 else { return "an interface has at least one queue" }
    return nil
  }
}

extension AMDViCapabilities {
  fileprivate var contradiction: String? {
    guard !guestIO || guestTranslation else {
      return "guest tables without PASID need guest tables"
    }
    // amd: setup_gcr3_table() refuses every device that has so many PASIDs.
    guard !guestTranslation || pasidBits <= 9 * (guestCR3Levels + 1) else {
      return "PASIDs of \(pasidBits) bits do not fit \(guestCR3Levels) more levels of GCR3 tables"
    }
    return nil
  }
}

/// What is wrong with a description.
package struct MachineError: Error, CustomStringConvertible {
  /// By its place in the description's list.
  package enum Subject: Hashable, Sendable {
    case unit(Int)
    case device(Int)
  }

  package let description: String
  /// What it is wrong with, where that is one of many.
  package let subject: Subject?

  package init(_ description: String, of subject: Subject? = nil) {
    self.description = description
    self.subject = subject
  }
}
