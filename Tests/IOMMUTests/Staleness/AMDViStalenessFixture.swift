// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU

/// AMD-Vi: the device table entry has the domain and the GCR3 table has the roots. Requests without
/// PASID use only the host table with nesting, and the guest table of PASID 0 otherwise.
struct AMDViStalenessFixture: StalenessFixture {
  var model: StalenessModel
  let memory: StalenessMemory
  let ports: [DMAPort]
  private let unit: AMDViUnit
  private let isNested: Bool
  private let host: PagingTable
  private let table: AMDViUnit.DeviceTable
  /// The addresses of the GCR3 tables by device, as in entries.
  private let guestCR3Tables: [UInt64]

  init(_ configuration: AMDViUnit.Configuration, isNested: Bool) throws {
    let memory = try PhysicalMemory(.test)
    unit = AMDViUnit(configuration, memory: memory)
    self.isNested = isNested
    let start = try memory.allocateTable(sizeShift: 23)
    let base = isNested ? 0x4000_0000 : start.rawValue
    var tables = StalenessMemory(memory, start, base: base, .x86)
    guestCR3Tables = (0..<StalenessModel.devices).map { _ in tables.allocate() }
    self.memory = tables
    host = try PagingTable(amdv1Levels: 3, pageSizes: .max, memory: memory)
    table = AMDViUnit.DeviceTable(
      base: try memory.allocateTable(sizeShift: 17), count: 1 << 12)
    unit.enable(table)
    ports = Self.makePorts(configuration.iotlb) { [unit] in
      DMAPort(requester: $0, amdvi: unit, deviceTLB: $1)
    }
    model = StalenessModel(tagsPASIDs: true, base: base) {
      .init(domain: nil, root: isNested && $1 == 0 ? nil : $1 + $0)
    }
    self.memory.storeAll(model.tables)
    try self.memory.mapAll(in: host)
    for device in 0..<StalenessModel.devices {
      store(device)
      for pasid in 0..<StalenessModel.pasids { store(device, pasid) }
    }
  }

  func isSecond(_ pasid: Int) -> Bool { isNested && pasid == 0 }
  var answersWithAskedRights: Bool { true }
  var hasHost: Bool { isNested }
  func storeHost(_ frame: Int) { memory.map(frame, model.tables, in: host) }

  private static func domain(_ index: Int) -> DomainID { DomainID(rawValue: UInt16(index + 5)) }

  private func store(_ device: Int) {
    var entry = DeviceTableEntry()
    entry.isValid = true
    entry.isTranslationValid = true
    entry.allowsReading = true
    entry.allowsWriting = true
    entry.allowsDeviceTLB = true
    entry.isGuestValid = true
    entry.usesGuestTableWithoutPASID = !isNested
    entry.guestCR3Table = guestCR3Tables[device]
    if isNested {
      entry.hostLevels = 3
      entry.hostTable = host.root
    }
    entry.domain = Self.domain(model.domainOfDevice[device])
    let offset = UInt64(Self.requester(device).rawValue) * DeviceTableEntry.size
    memory.memory.storeEntry(entry.words, at: PhysicalAddress(table.base.rawValue + offset))
  }

  private func store(_ device: Int, _ pasid: Int) {
    guard !isSecond(pasid) else { return }
    let root = model.entries[device][pasid]?.root
    memory[guestCR3Tables[device] + UInt64(pasid) * 8] = root.map { memory.roots[$0] | 1 } ?? 0
  }

  mutating func changeConfiguration(_ random: inout SeededGenerator) {
    let (device, pasid) = StalenessModel.randomDeviceAndPASID(&random)
    if isSecond(pasid) || Int.random(in: 0..<3, using: &random) == 0 {
      model.domainOfDevice[device] = StalenessModel.randomDomain(&random)
      store(device)
    } else {
      model.entries[device][pasid] =
        Int.random(in: 0..<5, using: &random) == 0
        ? nil : .init(root: Int.random(in: 0..<StalenessTables.roots, using: &random))
      store(device, pasid)
    }
  }

  private func run(_ command: AMDViCommand) {
    #expect(throws: Never.self) { try unit.execute([command]) }
  }

  mutating func invalidate(_ random: inout SeededGenerator) {
    let (device, pasid) = StalenessModel.randomDeviceAndPASID(&random)
    let domain = StalenessModel.randomDomain(&random)
    let directories = Bool.random(using: &random)
    let requester = Self.requester(device)
    switch Int.random(in: 0..<16, using: &random) {
    case 0:
      run(.invalidateAll)
      model.invalidateDomains(of: 0..<StalenessModel.devices)
      model.invalidateSpaces { _, _, _ in true }
      model.invalidate(model.allTags, nil, structures: true)
    case 1, 2:
      run(.invalidateDeviceTableEntry(requester))
      model.invalidateDomains(of: device..<device + 1)
      model.invalidateSpaces { other, _, _ in other == device }
    case 3..<6:
      invalidateHost(domain, directories, &random)
    case 6..<12:
      let (pages, range) = randomPages(&random, isSecond: false)
      run(
        .invalidatePages(
          pages, of: Self.domain(domain), pasid: PASID(rawValue: UInt32(pasid)),
          directories: directories))
      // When requests without PASID use only the host table, no guest table has PASID 0.
      guard !isSecond(pasid) else { return }
      model.invalidate([model.tag(domain, pasid)], range, structures: directories)
      if directories {
        model.invalidateSpaces { $1 == pasid && $2.domain == domain && $2.root != nil }
      }
    default:
      let (pages, range) = randomPages(&random, isSecond: isSecond(pasid))
      let isPASIDZero = pasid == 0 && !isNested && Bool.random(using: &random)
      run(
        .invalidateDeviceTLB(
          pages, of: requester, pasid: isPASIDZero ? PASID(rawValue: 0) : Self.pasid(pasid)))
      if isPASIDZero { model.recordDomain(of: device) }
      model.invalidateDeviceTLB(device, pasid: pasid == 0 ? nil : pasid, range, isSecond: isSecond)
    }
  }

  private mutating func invalidateHost(
    _ domain: Int, _ directories: Bool, _ random: inout SeededGenerator
  ) {
    let (pages, range) = randomPages(&random, isSecond: true)
    run(
      .invalidatePages(pages, of: Self.domain(domain), pasid: nil, directories: directories))
    model.invalidate([model.secondTag(domain)], range, structures: false)
    model.invalidate(model.firstTags(of: domain), nil, structures: directories)
    if directories { model.invalidateSpaces { $2.domain == domain && $2.root != nil } }
  }

  private func randomPages(
    _ random: inout SeededGenerator, isSecond: Bool
  ) -> (AMDViPageRange, ClosedRange<UInt64>?) {
    if Int.random(in: 0..<8, using: &random) == 0 { return (.everything, nil) }
    let (_, _, range) = randomRange(&random, isSecond: isSecond)
    return (AMDViPageRange(covering: range.lowerBound, through: range.upperBound), range)
  }
}
