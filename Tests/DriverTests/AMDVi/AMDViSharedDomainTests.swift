// SPDX-License-Identifier: Apache-2.0

import CUAPI
import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite("amd: domains that devices behind several units share")
struct AMDViSharedDomainTests {
  private static let device = AMDViDriverFixture.device

  /// Two units of one machine, each with one device of the same requester ID.
  private struct Units {
    let memory: PhysicalMemory
    let drivers: [AMDViDriver]
    let ports: [DMAPort]
    let page: PhysicalAddress

    init(_ change: (inout [AMDViUnit.Configuration]) -> Void = { _ in }) throws {
      let memory = try PhysicalMemory(.test)
      self.memory = memory
      var configurations = [AMDViUnit.Configuration(), AMDViUnit.Configuration()]
      change(&configurations)
      let platform = AMDViPlatform(configurations.map(\.capabilities))
      drivers = try configurations.map { configuration throws in
        let driver = try AMDViDriver(
          unit: AMDViUnit(configuration, memory: memory), of: platform, lastDevice: .test(9),
          guestTableInterface: .uapi, memory: memory)
        var properties = DeviceProperties(pasidBits: 16)
        properties.hasATS = true
        try driver.probe(device, properties)
        return driver
      }
      ports = drivers.map { DMAPort(requester: device, amdvi: $0.unit) }
      page = try memory.allocateTable(sizeShift: 14)
    }

    func makeDomain(_ flags: PagingDomainFlags, of unit: Int = 0) throws -> AMDViPagingDomain {
      let domain = try drivers[unit].makePagingDomain(flags, for: device)
      return try #require(domain as? AMDViPagingDomain)
    }

    func block() { for driver in drivers { driver.block(device, pasid: nil) } }
  }

  @Test(
    "a domain translates and is invalidated behind every unit",
    arguments: [[], .dirtyTracking, .nestParent, .pasid] as [PagingDomainFlags])
  func sharing(flags: PagingDomainFlags) throws {
    let units = try Units()
    defer { units.block() }
    let domain = try units.makeDomain(flags)
    for driver in units.drivers { try driver.attach(domain, to: Self.device, pasid: nil) }
    for round in 0..<2 as Range<UInt64> {
      try domain.map(
        IOVA(0x1000), to: units.page, length: 0x2000, permissions: [.read, .write])
      #expect(units.ports[0].store(7 + round, to: 0x1000) == .completed)
      #expect(units.ports[1].load(0x1000).1 == 7 + round)
      #expect(domain.unmap(IOVA(0x1000), length: 0x2000) == 0x2000)
      for port in units.ports {
        #expect(port.load(0x1000).0.amdviEvent?.kind == .pageFault)
      }
    }
    try domain.map(IOVA(0x1000), to: units.page, length: 0x1000, permissions: .read)
    units.drivers[0].block(Self.device, pasid: nil)
    #expect(units.ports[0].load(0x1000).0.amdviEvent?.kind == .pageFault)
    #expect(units.ports[1].load(0x1000).0 == .completed)
    domain.unmap(IOVA(0x1000), length: 0x1000)
    #expect(units.ports[1].load(0x1000).0.amdviEvent?.kind == .pageFault)
  }

  @Test("a table that grows changes the entries of the devices behind every unit")
  func growth() throws {
    let units = try Units()
    defer { units.block() }
    let domain = try units.makeDomain([])
    for driver in units.drivers { try driver.attach(domain, to: Self.device, pasid: nil) }
    for address in [0x1000, 1 << 45, 1 << 57] as [UInt64] {
      try domain.map(
        IOVA(address), to: units.page, length: 0x1000, permissions: [.read, .write])
      for port in units.ports {
        #expect(port.load(address).0 == .completed)
        #expect(port.load(0x1000).0 == .completed)
      }
    }
  }

  /// amd: get_global_efr(), amd_iommu_hd_support(), amd_iommu_attach_device()
  @Test("units use the features that all have, and each its own dirty tracking")
  func features() throws {
    let units = try Units {
      $0[0].capabilities.hostLevels = 5
      $0[0].capabilities.pasidBits = 12
      $0[1].capabilities.hostFlags = false
      $0[1].capabilities.ignoresHyperTransportRange = true
      $0[1].capabilities.deviceTLBs = false
    }
    defer { units.block() }
    #expect(units.drivers[0].capabilities(of: Self.device) == .dirtyTracking)
    #expect(units.drivers[1].capabilities(of: Self.device) == [])
    for driver in units.drivers {
      // 5 levels and 6 levels are 01b and 10b, which have no bit in common.
      let info = try #require(try driver.hardwareInfo(of: Self.device, type: 0))
      let value = info.bytes.withUnsafeBytes { $0.loadUnaligned(as: iommu_hw_info_amd.self) }
      #expect(
        value.efr
          == units.drivers[0].unit.capabilities.features
          & units.drivers[1].unit.capabilities.features)
      #expect(value.efr2 == 1 << 3)
      #expect(driver.reservedRegions(of: Self.device).count == 2)
      #expect(driver.usablePASIDWidth(16) == 11)
      let domain = try driver.makePagingDomain([], for: Self.device)
      #expect(domain.aperture.upperBound == 1 << 48 - 1)
    }
    let domain = try units.makeDomain(.dirtyTracking)
    try units.drivers[0].attach(domain, to: Self.device, pasid: nil)
    #expect(
      failure { () throws(Errno) in
        try units.drivers[1].attach(domain, to: Self.device, pasid: nil)
      } == .invalidArgument)
    #expect(
      failure { () throws(Errno) in
        _ = try units.drivers[1].makePagingDomain(.dirtyTracking, for: Self.device)
      } == .notSupported)
  }

  @Test("domain IDs of all units differ, and a domain ID is free again after the last detach")
  func domainIDs() throws {
    let units = try Units()
    let first = try units.makeDomain([], of: 0)
    let second = try units.makeDomain([], of: 1)
    #expect(first.id != second.id)
    for driver in units.drivers {
      try driver.attach(first, to: Self.device, pasid: nil)
      try driver.attach(second, to: Self.device, pasid: nil)
      driver.block(Self.device, pasid: nil)
    }
    var third: AMDViPagingDomain? = try units.makeDomain([], of: 1)
    let id = try #require(third).id
    third = nil
    #expect(try units.makeDomain([], of: 0).id == id)
  }

  /// amd: amd_iommufd_viommu_init() and nested_attach_device() look at no unit.
  @Test("a vIOMMU and its nested domains can have a parent that was made for another unit")
  func nesting() throws {
    let units = try Units()
    defer { units.block() }
    let parent = try units.makeDomain(.nestParent, of: 0)
    let start = try units.memory.allocateTable(sizeShift: 23)
    let guest = AMDViTables(units.memory, start, base: AMDViTables.hostBase)
    try parent.map(
      IOVA(AMDViTables.hostBase), to: start, length: AMDViTables.size,
      permissions: [.read, .write])
    _ = try units.drivers[1].makeVirtualIOMMU(
      type: 1, on: parent, for: Self.device, host: RecordingVIOMMUHost(), data: nil)
    let viommu = try units.drivers[0].makeVirtualIOMMU(
      type: 1, on: parent, for: Self.device, host: RecordingVIOMMUHost(), data: nil)
    var entry = DeviceTableEntry()
    entry.isValid = true
    entry.isTranslationValid = true
    entry.isGuestValid = true
    entry.usesGuestTableWithoutPASID = true
    entry.guestCR3Table = guest.allocate()
    let root = guest.allocate()
    guest[entry.guestCR3Table] = root | 1
    guest[guest.entry(root, 0x1000)] = guest.data(0) | AMDViTables.user
    entry.domain = DomainID(rawValue: 1)
    let words = TestMemory()
    for index in 0..<4 { words.store(entry.words[index], at: index * 8) }
    let nested = try viommu.makeNestedDomain(
      for: Self.device, flags: [],
      data: UserData(type: 3, address: words.address, length: 32, memory: InProcessClient()))
    for driver in units.drivers { try driver.attach(nested, to: Self.device, pasid: nil) }
    #expect(units.ports[0].store(3, to: 0x1000) == .completed)
    #expect(units.ports[1].load(0x1000).1 == 3)
    parent.unmap(IOVA(AMDViTables.hostBase), length: AMDViTables.size)
    for port in units.ports { #expect(port.load(0x1000).0 != .completed) }
  }
}
