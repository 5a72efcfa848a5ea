// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU

/// VT-d: PASID table entries have the domain and the root. With nesting PASID 2 uses only the
/// second stage.
struct VTdStalenessFixture: StalenessFixture {
  var model: StalenessModel
  let memory: StalenessMemory
  let ports: [DMAPort]
  private let unit: VTdUnit
  private let isNested: Bool
  private let host: PagingTable
  private let pasidTables: [PhysicalAddress]

  init(_ configuration: VTdUnit.Configuration, isNested: Bool) throws {
    let memory = try PhysicalMemory(.test)
    unit = VTdUnit(configuration, memory: memory)
    self.isNested = isNested
    let start = try memory.allocateTable(sizeShift: 23)
    let base = isNested ? 0x4000_0000 : start.rawValue
    self.memory = StalenessMemory(memory, start, base: base, .x86)
    host = try PagingTable(vtdSecondStageLevels: 4, pageSizes: 1 << 21, memory: memory)
    let (root, contexts) = (try memory.allocateTable(), try memory.allocateTable())
    memory.storeEntry(contexts.rawValue | 1, at: PhysicalAddress(root.rawValue + 16))
    var tables: [PhysicalAddress] = []
    for device in 0..<StalenessModel.devices {
      let (directory, table) = (try memory.allocateTable(), try memory.allocateTable())
      memory.storeEntry(table.rawValue | 1, at: directory)
      var context = ScalableContextEntry()
      context.directory = directory
      context.allowsPASID = true
      context.allowsDeviceTLB = true
      context.isPresent = true
      let offset = ScalableContextEntry.offset(of: Self.requester(device))
      memory.storeEntry(context.words, at: PhysicalAddress(contexts.rawValue + offset))
      tables.append(table)
    }
    pasidTables = tables
    unit.setRootTable(root)
    ports = Self.makePorts(configuration.iotlb) { [unit] in
      DMAPort(requester: $0, vtd: unit, deviceTLB: $1)
    }
    model = StalenessModel(tagsPASIDs: true, base: base) {
      .init(domain: $0, root: isNested && $1 == 2 ? nil : $1 + $0)
    }
    self.memory.storeAll(model.tables)
    try self.memory.mapAll(in: host)
    for device in 0..<StalenessModel.devices {
      for pasid in 0..<StalenessModel.pasids { store(device, pasid) }
    }
  }

  func isSecond(_ pasid: Int) -> Bool { isNested && pasid == 2 }
  var answersWithAskedRights: Bool { true }
  var hasHost: Bool { isNested }
  func storeHost(_ frame: Int) { memory.map(frame, model.tables, in: host) }

  private func store(_ device: Int, _ pasid: Int) {
    var entry = PASIDTableEntry()
    if let described = model.entries[device][pasid] {
      entry.domain = Self.domain(described.domain ?? 0)
      entry.levels = 4
      entry.secondStage = host.root
      if let root = described.root {
        entry.type = isNested ? .nested : .firstStage
        entry.firstStage = PhysicalAddress(memory.roots[root])
      } else {
        entry.type = .secondStage
      }
      entry.isPresent = true
    }
    let offset = PASIDTableEntry.offset(of: PASID(rawValue: UInt32(pasid)))
    memory.memory.storeEntry(
      entry.words, at: PhysicalAddress(pasidTables[device].rawValue + offset))
  }

  private static func domain(_ index: Int) -> DomainID { DomainID(rawValue: UInt16(index + 5)) }

  mutating func changeConfiguration(_ random: inout SeededGenerator) {
    let (device, pasid) = StalenessModel.randomDeviceAndPASID(&random)
    let domain = StalenessModel.randomDomain(&random)
    let root = Int.random(in: 0..<StalenessTables.roots, using: &random)
    model.entries[device][pasid] =
      Int.random(in: 0..<5, using: &random) == 0
      ? nil : .init(domain: domain, root: isSecond(pasid) ? nil : root)
    store(device, pasid)
  }

  mutating func invalidate(_ random: inout SeededGenerator) {
    let (device, pasid) = StalenessModel.randomDeviceAndPASID(&random)
    let domain = StalenessModel.randomDomain(&random)
    let (id, number) = (Self.domain(domain), PASID(rawValue: UInt32(pasid)))
    let keeps = Bool.random(using: &random)
    switch Int.random(in: 0..<16, using: &random) {
    case 0:
      unit.invalidateIOTLB(.global, keepsPagingStructures: keeps)
      model.invalidate(model.allTags, nil, structures: !keeps)
    case 1:
      unit.invalidateIOTLB(.domain(id), keepsPagingStructures: keeps)
      model.invalidate(
        model.firstTags(of: domain) + [model.secondTag(domain)], nil, structures: !keeps)
    case 2, 3:
      let (start, shift, range) = randomRange(&random, isSecond: true)
      unit.invalidateIOTLB(.pages(id, IOVA(start), shift: shift), keepsPagingStructures: keeps)
      model.invalidate(model.firstTags(of: domain), nil, structures: !keeps)
      model.invalidate([model.secondTag(domain)], range, structures: false)
    case 4:
      unit.invalidateIOTLB(.pasid(id, number), keepsPagingStructures: keeps)
      model.invalidate([model.tag(domain, pasid)], nil, structures: !keeps)
    case 5..<9:
      let (start, shift, range) = randomRange(&random, isSecond: false)
      unit.invalidateIOTLB(
        .pasidPages(id, number, IOVA(start), shift: shift), keepsPagingStructures: keeps)
      model.invalidate([model.tag(domain, pasid)], range, structures: !keeps)
    case 9:
      unit.invalidatePASIDCache(keeps ? .global : .domain(id))
      model.invalidateSpaces { keeps || $2.domain == domain }
    case 10, 11:
      unit.invalidatePASIDCache(.pasid(id, number))
      model.invalidateSpaces { $1 == pasid && $2.domain == domain }
    case 12:
      unit.invalidateContextCache(keeps ? .global : .device(Self.requester(device)))
      model.invalidateSpaces { other, _, _ in keeps || other == device }
    default:
      let (start, shift, range) = randomRange(&random, isSecond: isSecond(pasid))
      let everything = Int.random(in: 0..<4, using: &random) == 0
      unit.invalidateDeviceTLB(
        of: Self.requester(device), everything ? .all : .pages(IOVA(start), shift: shift),
        pasid: Self.pasid(pasid))
      model.invalidateDeviceTLB(
        device, pasid: pasid == 0 ? nil : pasid, everything ? nil : range, isSecond: isSecond)
    }
  }
}
