import SystemPackage
import Testing

@testable import IOMMU

/// VT-d: PASID table entries have the domain and the root. With nesting PASID 2 goes through the second stage
/// alone.
struct VTdStalenessWorld: StalenessWorld {
  var model: StalenessModel
  let memory: StalenessMemory
  let ports: [DMAPort]
  private let unit: VTdUnit
  private let isNested: Bool
  private let host: PagingTable
  private let pasidTables: [PhysicalAddress]
  private let hostBase: UInt64

  init(_ configuration: VTdUnit.Configuration, isNested: Bool) throws {
    let memory = try PhysicalMemory(.test)
    unit = VTdUnit(configuration, memory: memory)
    self.isNested = isNested
    let start = try memory.allocateTable(sizeShift: 23)
    let base = isNested ? 0x4000_0000 : start.rawValue
    hostBase = base
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
      let offset = ScalableContextEntry.offset(of: .test(UInt8(device)))
      memory.storeLine(context.words, at: PhysicalAddress(contexts.rawValue + offset))
      tables.append(table)
    }
    pasidTables = tables
    unit.setRootTable(root)
    var geometry = DeviceTLBGeometry()
    geometry.sets = configuration.iotlb.sets4K
    ports = (0..<StalenessModel.devices).map { [unit] in
      DMAPort(requester: .test(UInt8($0)), vtd: unit, deviceTLB: geometry)
    }
    model = StalenessModel(
      tagsPASIDs: true, frameAddress: base + StalenessMemory.offset(ofFrame: 0),
      entries: (0..<StalenessModel.devices).map { device in
        (0..<StalenessModel.pasids).map {
          .init(domain: device, root: isNested && $0 == 2 ? nil : $0 + device)
        }
      })
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
    memory.memory.storeLine(
      entry.words, at: PhysicalAddress(pasidTables[device].rawValue + offset))
  }

  private static func domain(_ index: Int) -> DomainID { DomainID(rawValue: UInt16(index + 5)) }

  mutating func changeConfiguration(_ random: inout SeededGenerator) {
    let device = Int.random(in: 0..<StalenessModel.devices, using: &random)
    let pasid = Int.random(in: 0..<StalenessModel.pasids, using: &random)
    let domain = Int.random(in: 0..<StalenessModel.domains, using: &random)
    let root = Int.random(in: 0..<StalenessTables.roots, using: &random)
    model.entries[device][pasid] =
      Int.random(in: 0..<5, using: &random) == 0
      ? nil : .init(domain: domain, root: isSecond(pasid) ? nil : root)
    store(device, pasid)
  }

  mutating func invalidate(_ random: inout SeededGenerator) {
    let device = Int.random(in: 0..<StalenessModel.devices, using: &random)
    let pasid = Int.random(in: 0..<StalenessModel.pasids, using: &random)
    let domain = Int.random(in: 0..<StalenessModel.domains, using: &random)
    let (id, number) = (Self.domain(domain), PASID(rawValue: UInt32(pasid)))
    let keeps = Bool.random(using: &random)
    switch Int.random(in: 0..<16, using: &random) {
    case 0:
      unit.invalidateIOTLB(.global, keepsPagingStructures: keeps)
      model.forget(model.allTags, nil, structures: !keeps)
    case 1:
      unit.invalidateIOTLB(.domain(id), keepsPagingStructures: keeps)
      model.forget(
        model.firstTags(of: domain) + [model.secondTag(domain)], nil, structures: !keeps)
    case 2, 3:
      let (start, shift, range) = randomRange(&random, isSecond: true)
      unit.invalidateIOTLB(.pages(id, IOVA(start), shift: shift), keepsPagingStructures: keeps)
      model.forget(model.firstTags(of: domain), nil, structures: !keeps)
      model.forget([model.secondTag(domain)], range, structures: false)
    case 4:
      unit.invalidateIOTLB(.pasid(id, number), keepsPagingStructures: keeps)
      model.forget([model.tag(domain, pasid)], nil, structures: !keeps)
    case 5..<9:
      let (start, shift, range) = randomRange(&random, isSecond: false)
      unit.invalidateIOTLB(
        .pasidPages(id, number, IOVA(start), shift: shift), keepsPagingStructures: keeps)
      model.forget([model.tag(domain, pasid)], range, structures: !keeps)
    case 9:
      unit.invalidatePASIDCache(keeps ? .global : .domain(id))
      model.forgetSpaces { keeps || $2.domain == domain }
    case 10, 11:
      unit.invalidatePASIDCache(.pasid(id, number))
      model.forgetSpaces { $1 == pasid && $2.domain == domain }
    case 12:
      unit.invalidateContextCache(keeps ? .global : .device(.test(UInt8(device))))
      model.forgetSpaces { other, _, _ in keeps || other == device }
    default:
      let (start, shift, range) = randomRange(&random, isSecond: isSecond(pasid))
      let everything = Int.random(in: 0..<4, using: &random) == 0
      unit.invalidateDeviceTLB(
        of: .test(UInt8(device)), everything ? .all : .pages(IOVA(start), shift: shift),
        pasid: Self.pasid(pasid))
      model.forgetDevice(
        device, pasid: pasid == 0 ? nil : pasid, everything ? nil : range, isSecond: isSecond)
    }
  }
}

extension StalenessMemory {
  /// Maps everything in a second-stage table, small frames one by one.
  func mapAll(in host: PagingTable) throws {
    let large = StalenessMemory.offset(ofFrame: StalenessTables.smallFrames)
    for (offset, length) in [(0, 2 << 20), (large, StalenessMemory.size - large)] {
      try map(offset, to: offset, length, in: host)
    }
    for frame in 0..<StalenessTables.smallFrames {
      let offset = StalenessMemory.offset(ofFrame: frame)
      try map(offset, to: offset, 4096, in: host)
    }
  }

  /// Leads the address of a small frame to where the model says.
  func map(_ frame: Int, _ tables: StalenessTables, in host: PagingTable) {
    let offset = Self.offset(ofFrame: frame)
    _ = host.unmap(IOVA(base + offset), length: 4096)
    #expect(throws: Never.self) {
      try map(offset, to: Self.offset(ofFrame: tables.host[frame]), 4096, in: host)
    }
  }

  private func map(
    _ offset: UInt64, to place: UInt64, _ length: UInt64, in host: PagingTable
  ) throws {
    let result = host.map(
      IOVA(base + offset), to: PhysicalAddress(start.rawValue + place), length: length,
      permissions: [.read, .write], snoops: false)
    try #require(result.error == nil)
  }
}
