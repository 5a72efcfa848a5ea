// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU

/// SMMUv3: context descriptors have the ASID, which is the model's domain, and the root. Each of
/// two devices has its own context descriptor table. Both use one stage 2 table. A change of the
/// stage 2 table invalidates everything at once.
struct SMMUv3StalenessFixture: StalenessFixture {
  var model: StalenessModel
  let memory: StalenessMemory
  let ports: [DMAPort]
  private let unit: SMMUv3Unit
  private let host: PagingTable
  private let descriptors: [UInt64]

  private static let vmid: UInt16 = 1
  private static let readOnly: UInt64 = 1 << 7
  /// A valid leaf: AP[1] (unprivileged access), inner shareable, AF, nG.
  private static let leaf: UInt64 = 1 | 1 << 6 | 3 << 8 | 1 << 10 | 1 << 11
  private static let format = StalenessMemory.Format(
    table: { $0 | 3 }, large: { $0 | leaf }, page: { $0 | leaf | 2 | ($1 ? 0 : readOnly) })

  init(_ configuration: SMMUv3Unit.Configuration) throws {
    var configuration = configuration
    configuration.capabilities.ats = true
    let memory = try PhysicalMemory(.test)
    unit = SMMUv3Unit(configuration, memory: memory)
    let start = try memory.allocateTable(sizeShift: 23)
    let base: UInt64 = 0x8000_0000
    var tables = StalenessMemory(memory, start, base: base, Self.format)
    descriptors = (0..<StalenessModel.devices).map { _ in tables.allocate() }
    self.memory = tables
    host = try PagingTable(
      vmsav8Stage2AddressBits: unit.capabilities.outputAddressBits, memory: memory)
    let streams = SMMUv3Unit.StreamTable(
      base: try memory.allocateTable(sizeShift: 16), sizeBits: 10, split: nil)
    unit.enable(streams)
    ports = Self.makePorts(configuration.iotlb) { [unit] in
      DMAPort(requester: $0, smmuv3: unit, deviceTLB: $1)
    }
    model = StalenessModel(tagsPASIDs: false, keepsDenials: true, base: base) {
      .init(domain: $0, root: $1 + $0)
    }
    self.memory.storeAll(model.tables)
    try self.memory.mapAll(in: host)
    for device in 0..<StalenessModel.devices {
      for pasid in 0..<StalenessModel.pasids { store(device, pasid) }
      let offset = UInt64(Self.requester(device).rawValue) * StreamTableEntry.size
      memory.storeEntry(
        streamTableEntry(of: device).words, at: PhysicalAddress(streams.base.rawValue + offset))
    }
    model.addReachable()
  }

  private func streamTableEntry(of device: Int) -> StreamTableEntry {
    var entry = StreamTableEntry()
    entry.isValid = true
    entry.configuration = .nested
    entry.descriptors = descriptors[device]
    entry.descriptorBits = 6
    entry.defaultSubstream = .substream0
    entry.ats = 1
    entry.vmid = Self.vmid
    entry.inputBits = unit.capabilities.outputAddressBits
    entry.granuleShift = 12
    entry.startLevelField = UInt64(2 - (3 - host.topLevel))
    entry.outputSizeField = SMMUv3Capabilities.encoding(
      ofSize: unit.capabilities.outputAddressBits)
    entry.usesAArch64Tables = true
    entry.recordsFaults = true
    entry.table = host.root
    return entry
  }

  private static func stream(_ device: Int) -> StreamID { StreamID(requester(device)) }
  private static func asid(_ domain: Int) -> UInt16 { UInt16(domain) + 40 }

  func isSecond(_ pasid: Int) -> Bool { false }
  var answersWithAskedRights: Bool { false }
  var hasHost: Bool { true }

  /// Remaps a frame, and invalidates the TLB of the unit and of each device in the same step.
  mutating func storeHost(_ frame: Int) {
    memory.map(frame, model.tables, in: host)
    execute(.tlbi(.tlbiStage12, vmid: Self.vmid))
    model.invalidate(model.allTags, nil, structures: true)
    for device in 0..<StalenessModel.devices {
      execute(
        .invalidateATC(Self.stream(device), pasid: nil, address: IOVA(0), sizeShift: 64))
      model.invalidateDeviceTLB(device, pasid: nil, nil, isSecond: isSecond)
    }
  }

  private func execute(_ command: SMMUv3Command) {
    #expect(throws: Never.self) { try unit.execute([command]) }
  }

  private func store(_ device: Int, _ pasid: Int) {
    guard let entry = model.entries[device][pasid], let root = entry.root else { return }
    let descriptor = ContextDescriptor.test(
      memory.roots[root], asid: Self.asid(entry.domain ?? 0))
    for index in 0..<8 {
      memory[descriptors[device] + UInt64(pasid) * 64 + UInt64(index) * 8] =
        descriptor.words[index]
    }
  }

  mutating func changeConfiguration(_ random: inout SeededGenerator) {
    let (device, pasid) = StalenessModel.randomDeviceAndPASID(&random)
    model.entries[device][pasid] = .init(
      domain: StalenessModel.randomDomain(&random),
      root: Int.random(in: 0..<StalenessTables.roots, using: &random))
    store(device, pasid)
  }

  mutating func invalidate(_ random: inout SeededGenerator) {
    let (device, pasid) = StalenessModel.randomDeviceAndPASID(&random)
    let domain = StalenessModel.randomDomain(&random)
    let stream = Self.stream(device)
    let (start, shift, range) = randomRange(&random, isSecond: false)
    let page = start...start + 0xfff
    let command: SMMUv3Command
    switch Int.random(in: 0..<16, using: &random) {
    case 0:
      command =
        Bool.random(using: &random)
        ? .tlbi(.tlbiAll, vmid: Self.vmid) : .tlbi(.tlbiEverything)
      model.invalidate(model.allTags, nil, structures: true)
    case 1:
      command = .tlbi(.tlbiASID, asid: Self.asid(domain), vmid: Self.vmid)
      model.invalidate([domain], nil, structures: true)
    case 2..<7:
      var address = SMMUv3Command.tlbi(
        .tlbiAddress, asid: Self.asid(domain), vmid: Self.vmid)
      address.setAddress(start, isLeaf: Bool.random(using: &random))
      command = address
      model.invalidate([domain], page, structures: true)
    case 7:
      var address = SMMUv3Command.tlbi(.tlbiAddressAllASIDs, vmid: Self.vmid)
      address.setAddress(start, isLeaf: true)
      command = address
      model.invalidate(Array(0..<StalenessModel.domains), page, structures: true)
    case 8..<11:
      command = .invalidateContext(
        stream, substream: PASID(rawValue: UInt32(pasid)), isLeaf: true)
      model.invalidateSpaces { other, space, _ in other == device && space == pasid }
    case 11:
      command = SMMUv3Command(lower: 6 | UInt64(stream.rawValue) << 32, upper: 0)
      model.invalidateSpaces { other, _, _ in other == device }
    default:
      command = .invalidateATC(
        stream, pasid: pasid == 0 ? nil : PASID(rawValue: UInt32(pasid)), address: IOVA(start),
        sizeShift: shift)
      model.invalidateDeviceTLB(
        device, pasid: pasid == 0 ? nil : pasid, range, isSecond: isSecond)
    }
    execute(command)
  }
}
