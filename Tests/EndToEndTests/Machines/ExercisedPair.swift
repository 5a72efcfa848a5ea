// SPDX-License-Identifier: Apache-2.0

import IOMMU
import IOMMUFD
import Machine
import SystemPackage
import TestSupport

/// Two devices of a generated machine, and what the kernel's drivers say of the domains of the
/// first device when the second one is attached to them.
struct ExercisedPair {
  private let fixture: VFIOFixture
  private let owner: ExercisedDevice
  private let guest: ExercisedDevice

  init(_ owner: Int, _ guest: Int, of fixture: VFIOFixture) throws {
    self.fixture = fixture
    self.owner = try ExercisedDevice(owner, of: fixture)
    self.guest = try ExercisedDevice(guest, of: fixture, memory: self.owner.memory)
  }

  /// Every domain that the driver can make for the first device, and an IOAS that both devices are
  /// attached to.
  func problems() throws -> [String] {
    defer {
      owner.client.close()
      guest.client.close()
    }
    guard let device = try? fixture.bind(owner.client).get(),
      (try? fixture.bind(guest.client).get()) != nil,
      !owner.lacksPages, !guest.lacksPages
    else { return [] }
    try owner.client.setConfig(4, UInt16(6))
    try guest.client.setConfig(4, UInt16(6))
    var problems: [String] = []
    for flags in [[], .nestParent, .dirtyTracking, .pasid] as [PagingDomainFlags]
    where owner.isMade(flags) {
      problems += try share(flags, of: device)
    }
    return try problems + shareIOAS()
  }

  /// Both devices are attached to one IOAS. iommufd makes a second domain when the driver refuses
  /// the first one.
  private func shareIOAS() throws -> [String] {
    let ioas = fixture.makeIOAS()
    if let error = fixture.map(owner.memory, on: ioas, at: owner.iova) { return ["map: \(error)"] }
    return owner.unexpected(owner.client.attach(ioas), nil, "attach to a shared IOAS")
      + guest.unexpected(guest.client.attach(ioas), nil, "attach to a shared IOAS")
      + (try useBoth(ioas, "a shared IOAS"))
  }

  private func share(_ flags: PagingDomainFlags, of device: UInt32) throws -> [String] {
    let ioas = fixture.makeIOAS()
    if let error = fixture.map(owner.memory, on: ioas, at: owner.iova) { return ["map: \(error)"] }
    let hwpt = try fixture.allocate(device, on: ioas, flags.rawValue).get()
    let what = "a HWPT of flags \(flags) that is shared"
    var problems = owner.unexpected(owner.client.attach(hwpt), nil, "attach to \(what)")
    let expected: Errno? = isCompatible(flags) ? nil : .invalidArgument
    problems += guest.unexpected(guest.client.attach(hwpt), expected, "attach to \(what)")
    guard expected == nil, problems.isEmpty else { return problems }
    problems += try useBoth(ioas, what)
    if flags == .pasid { problems += try guest.movesWithPASID(from: hwpt, ioas, device) }
    problems += guest.unexpected(guest.client.detach(), nil, "detach from \(what)")
    return try problems + owner.copies("\(what), after the detach of the other device")
  }

  /// Both devices use the pages, the pages are unmapped and mapped again.
  private func useBoth(_ ioas: UInt32, _ what: String) throws -> [String] {
    var problems = try owner.copies(what) + guest.copies(what)
    let error = fixture.unmap(owner.memory.byteCount, on: ioas, at: owner.iova)
    problems += owner.unexpected(error, nil, "unmap from \(what)")
    problems += try owner.fails("\(what), unmapped") + guest.fails("\(what), unmapped")
    if let error = fixture.map(owner.memory, on: ioas, at: owner.iova) {
      return problems + ["map: \(error)"]
    }
    return try problems + owner.copies("\(what), again") + guest.copies("\(what), again")
  }

  /// Whether the driver attaches the second device to a domain of the first one.
  private func isCompatible(_ flags: PagingDomainFlags) -> Bool {
    switch (owner.kind, guest.kind) {
    case (.vtd(let first), .vtd(let second)):
      return owner.description.unit == guest.description.unit
        || Self.isCompatible(flags, first.capabilities, second.capabilities)
    case (.smmuv3, .smmuv3):
      // arm-smmu-v3: arm_smmu_attach_dev()
      return owner.description.unit == guest.description.unit
    case (.amdvi, .amdvi(let second)):
      // amd: amd_iommu_attach_device()
      return !flags.contains(.dirtyTracking) || second.unit.capabilities.hostFlags
    default: return false
    }
  }

  /// intel: paging_domain_compatible() for a domain that was made for the unit `first`
  private static func isCompatible(
    _ flags: PagingDomainFlags, _ first: VTdCapabilities, _ second: VTdCapabilities
  ) -> Bool {
    let width = first.maximumGuestAddressWidth
    if first.firstStage, flags.isSubset(of: .pasid) {
      let needsFive = first.fiveLevelFirstStage && width > 48
      return second.firstStage && (second.fiveLevelFirstStage || !needsFive)
        && (second.firstStage1GPages || !first.firstStage1GPages)
    }
    let (levels, bits) = secondStage(first)
    return second.secondStage && (!flags.contains(.dirtyTracking) || second.secondStageFlags)
      && (!flags.contains(.nestParent) || second.nested)
      && second.maximumGuestAddressWidth >= bits && second.secondStageLevels.contains(levels)
      && (second.has2MPages || !first.has2MPages) && (second.has1GPages || !first.has1GPages)
      && (!second.cachingMode || first.cachingMode)
      && (second.snoopControl || !first.snoopControl)
  }

  /// intel: compute_vasz_lg2_ss(), which prefers one level more than the addresses need
  private static func secondStage(_ unit: VTdCapabilities) -> (levels: Int, bits: Int) {
    let width = unit.maximumGuestAddressWidth
    let largest = unit.secondStageLevels.max() ?? 0
    for (levels, bits) in [(5, 57), (4, 48), (3, 39)]
    where width > bits - 9 && largest >= levels {
      let preferred = [levels + 1, levels, levels + 2].first(
        where: unit.secondStageLevels.contains)
      return (preferred ?? 0, min(bits, width))
    }
    return (0, 64)
  }
}

extension ExercisedDevice {
  /// A copy to and from the pages fails.
  fileprivate func fails(_ what: String) throws -> [String] {
    try [DeviceClient.Direction.toDevice, .toMemory].flatMap { direction in
      try client.copy(direction, iova)
      let status = try client.read(0, 0x14, as: UInt32.self)
      return status == 2 || status == 4
        ? [] : ["device \(index), \(what): \(direction) ends as \(status)"]
    }
  }

  /// Moves the device between domains while a PASID of it is attached, and leaves it attached to
  /// `hwpt` (iommufd: iommufd_hwpt_pasid_compat()).
  fileprivate func movesWithPASID(
    from hwpt: UInt32, _ ioas: UInt32, _ owner: UInt32
  ) throws -> [String] {
    guard let bits = attachableBits, bits > 0, description.pasidWidth > 0 else { return [] }
    func copiesWithPASID(_ what: String) throws -> [String] {
      try client.write(0, 0x10, 1 | UInt32(1) << 31)
      defer { try? client.write(0, 0x10, UInt32(0)) }
      return try copies("PASID 1, \(what)")
    }
    var problems = unexpected(client.attach(hwpt, pasid: 1), nil, "PASID 1")
    problems += try copiesWithPASID("beside the same HWPT")
    let other = try fixture.allocate(owner, on: ioas, PagingDomainFlags.pasid.rawValue).get()
    let plain = try fixture.allocate(owner, on: ioas).get()
    problems += unexpected(client.attach(plain), .invalidArgument, "a HWPT without PASIDs")
    problems += unexpected(client.attach(plain, pasid: 1), .invalidArgument, "for a PASID, it")
    problems += try copies("after a refused HWPT") + copiesWithPASID("after a refused HWPT")
    problems += unexpected(client.attach(other), nil, "another HWPT")
    problems += try copies("another HWPT") + copiesWithPASID("beside another HWPT")
    problems += unexpected(client.detach(), nil, "detach beside a PASID")
    problems += try copiesWithPASID("alone") + fails("detached beside a PASID")
    problems += unexpected(client.attach(hwpt), nil, "attach beside a PASID")
    problems += unexpected(client.detach(pasid: 1), nil, "detach of PASID 1")
    return try problems + copies("after the detach of a PASID")
  }
}
