// SPDX-License-Identifier: Apache-2.0

import CUAPI
import IOMMU
import IOMMUFD
import Machine
import PCI
import SystemPackage
import TestSupport
import UAPI

/// A device of a generated machine, with what the kernel's drivers say that it can do.
struct ExercisedDevice {
  let index: Int
  let fixture: VFIOFixture
  let description: MachineDescription.Device
  let kind: MachineDescription.Unit.Kind
  let client: DeviceClient
  /// The pages at ``iova``: two for data, the others for the tables of a guest.
  let memory: TestMemory
  static let pages = 8
  let iova: UInt64

  /// - Parameter memory: The memory of another device that uses the same pages.
  init(_ index: Int, of fixture: VFIOFixture, memory: TestMemory? = nil) throws {
    self.index = index
    self.memory = memory ?? TestMemory(pages: Self.pages)
    self.fixture = fixture
    let machine = fixture.machine.description
    description = machine.devices[index]
    let name = description.unit
    guard let unit = machine.units.first(where: { $0.name == name }) else {
      throw Errno.noSuchAddressOrDevice
    }
    kind = unit.kind
    client = try fixture.open(index)
    iova = Self.freeAddress(machine.devices.flatMap(\.reservedRegions))
  }

  private static func freeAddress(_ reserved: [ReservedRegion]) -> UInt64 {
    let addresses = [0x10_0000, 0x2000_0000, 0x7000_0000, 0xf000_0000] as [UInt64]
    return addresses.first { address in
      !reserved.contains { $0.range.overlaps(address...address + UInt64(pages) << 12) }
    } ?? addresses[0]
  }

  // MARK: Rules

  /// A member of the group must always reach memory, so that nobody can own the group.
  private var cannotBeBound: Bool {
    fixture.machine.description.devices.contains { device in
      device.group == description.group
        && device.reservedRegions.contains { $0.kind == .direct }
    }
  }

  /// Whether the unit has no page size that the host's pages are a multiple of.
  var lacksPages: Bool {
    if case .smmuv3(let unit) = kind { !unit.capabilities.granules.contains(12) } else { false }
  }

  /// The flags with which the driver makes page tables, and those with which it refuses to.
  func isMade(_ flags: PagingDomainFlags) -> Bool {
    switch kind {
    case .vtd(let unit):
      let unit = unit.capabilities
      if unit.firstStage, flags.isSubset(of: .pasid) { return true }
      return unit.secondStage && (!flags.contains(.nestParent) || unit.nested)
        && (!flags.contains(.dirtyTracking) || unit.secondStageFlags)
    case .smmuv3(let unit):
      let unit = unit.capabilities
      if flags == .nestParent {
        return unit.stage1 && unit.stage2 && !hasNestingErratum(unit.implementation)
      }
      if flags.contains(.nestParent) { return false }
      return flags == []
        || unit.stage1
          && (!flags.contains(.dirtyTracking) || unit.updatesDirtyState)
    case .amdvi(let configuration):
      if flags.contains(.pasid) { return flags == .pasid && amdFeatures.hasPASIDs }
      return (!flags.contains(.dirtyTracking) || configuration.unit.capabilities.hostFlags)
        && (!flags.contains(.nestParent) || amdFeatures.canNest)
    }
  }

  /// arm-smmu-v3: arm_smmu_device_iidr_probe(). The generator draws 0, numbers that name no
  /// implementer, and these: MMU-600 r1, MMU-600 r2, MMU-700 r1p0, MMU-700 r1p1.
  private func hasNestingErratum(_ implementation: UInt32) -> Bool {
    [0x4831_043b, 0x4871_043b].contains(implementation)
  }

  /// log2 of the PASIDs that can be attached: those that every device of the group with PASIDs has.
  /// `nil` when the driver attaches none.
  var attachableBits: Int? {
    let members = fixture.machine.description.devices.filter { $0.group == description.group }
    let bits = members.map(\.pasidWidth).filter { $0 > 0 }.min() ?? 0
    switch kind {
    case .vtd(let unit): return min(bits, unit.capabilities.pasidBits)
    case .smmuv3(let unit):
      let bits = min(bits, unit.capabilities.substreamBits)
      return unit.capabilities.twoLevelContextTable ? bits : min(bits, 10)
    case .amdvi: return nil
    }
  }

  // MARK: Checks

  /// Uses the device and returns what differs from the rules.
  func problems() throws -> [String] {
    defer { client.close() }
    let bound = fixture.bind(client)
    if cannotBeBound { return unexpected(bound.error, .invalidArgument, "bind") }
    guard let device = try? bound.get() else { return unexpected(bound.error, nil, "bind") }
    try client.setConfig(4, UInt16(6))
    let ioas = fixture.makeIOAS()
    if let error = fixture.map(memory, on: ioas, at: iova) { return ["map: \(error)"] }
    if lacksPages {
      return unexpected(client.attach(ioas), .invalidArgument, "attach")
        + unexpected(fixture.allocate(device, on: ioas).error, .invalidArgument, "HWPT_ALLOC")
    }
    var problems = unexpected(client.attach(ioas), nil, "attach")
    problems += propertyProblems(device, ioas)
    problems += try copies("the IOAS")
    for flags in [.nestParent, .dirtyTracking, .pasid, [.dirtyTracking, .pasid]]
      as [PagingDomainFlags]
    {
      let hwpt = fixture.allocate(device, on: ioas, flags.rawValue)
      problems += unexpected(hwpt.error, isMade(flags) ? nil : .notSupported, "flags \(flags)")
      guard let hwpt = try? hwpt.get() else { continue }
      problems += unexpected(client.attach(hwpt), nil, "attach to flags \(flags)")
      problems += try copies("flags \(flags)")
      if flags.contains(.pasid) { problems += try pasids(hwpt) }
    }
    return try problems + nestedProblems(device, ioas)
  }

  func unexpected(_ error: Errno?, _ expected: Errno?, _ what: String) -> [String] {
    if error == expected { return [] }
    return ["device \(index), \(what): \(error.map { "\($0)" } ?? "0")"]
  }

  /// Attaches the first and the last PASID of the device to `hwpt`.
  private func pasids(_ hwpt: UInt32) throws -> [String] {
    guard let bits = attachableBits else {
      return unexpected(client.attach(hwpt, pasid: 1), .notSupported, "PASID 1")
    }
    guard bits > 0, description.pasidWidth > 0 else { return [] }
    var problems: [String] = []
    for pasid in [1, 1 << UInt32(bits) - 1] as Set<UInt32> {
      problems += unexpected(client.attach(hwpt, pasid: pasid), nil, "PASID \(pasid)")
      try client.write(0, 0x10, pasid | 1 << 31)
      problems += try copies("PASID \(pasid)")
      try client.write(0, 0x10, UInt32(0))
      problems += unexpected(client.detach(pasid: pasid), nil, "detach of PASID \(pasid)")
    }
    return problems
  }

  /// Copies the first page to the second one by DMA, and then to a page that is not mapped.
  /// - Parameter address: The address that the device uses for the first page; ``iova`` by default.
  func copies(_ what: String, at address: UInt64? = nil) throws -> [String] {
    let address = address ?? iova
    for offset in stride(from: 0, to: 4096, by: 8) {
      memory.store(UInt64(offset) &* 0x9e37_79b9, at: offset)
      memory.store(UInt64(0), at: offset + 4096)
    }
    var problems: [String] = []
    for (direction, page) in [(.toDevice, 0), (.toMemory, 1)]
      as [(DeviceClient.Direction, UInt64)]
    {
      try client.copy(direction, address + page * 4096)
      let status = try client.read(0, 0x14, as: UInt32.self)
      if status != 1 { problems.append("device \(index), \(what): \(direction) ends as \(status)") }
    }
    if !memory.bytes[..<4096].elementsEqual(memory.bytes[4096..<8192]) {
      problems.append("device \(index), \(what): the bytes differ")
    }
    try client.copy(.toMemory, address + UInt64(Self.pages) << 12)
    let status = try client.read(0, 0x14, as: UInt32.self)
    if status != 2, status != 4 {
      problems.append("device \(index), \(what): an unmapped page ends as \(status)")
    }
    return problems
  }
}
