// SPDX-License-Identifier: Apache-2.0

import CUAPI
import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite("amd: arguments of the driver")
struct AMDViDriverTests {
  private static let device = AMDViDriverFixture.device

  private func fixture(
    _ change: (inout AMDViCapabilities) -> Void
  ) throws -> (driver: AMDViDriver, memory: PhysicalMemory) {
    var configuration = AMDViUnit.Configuration()
    change(&configuration.capabilities)
    let memory = try PhysicalMemory(.test)
    let unit = AMDViUnit(configuration, memory: memory)
    return (try AMDViDriver(unit: unit, lastDevice: .test(9), memory: memory), memory)
  }

  private func allocation(_ flags: PagingDomainFlags, _ driver: AMDViDriver) -> Errno? {
    failure { () throws(Errno) in _ = try driver.makePagingDomain(flags, for: Self.device) }
  }

  // MARK: Properties of devices

  @Test("hardware information has both feature registers")
  func hardwareInformation() throws {
    let fixture = try AMDViDriverFixture()
    for type: UInt32 in [0, 4] {
      let info = try #require(
        try fixture.driver.hardwareInfo(of: Self.device, type: type))
      #expect(info.type == 4)
      let value = info.bytes.withUnsafeBytes { $0.loadUnaligned(as: iommu_hw_info_amd.self) }
      #expect(value.efr == fixture.unit.capabilities.features)
      #expect(value.efr2 == fixture.unit.capabilities.features2)
    }
    for type: UInt32 in [1, 2, 3, 5] {
      #expect(
        failure { () throws(Errno) in
          _ = try fixture.driver.hardwareInfo(of: Self.device, type: type)
        } == .notSupported)
    }
  }

  @Test("reserved regions depend on the unit")
  func regions() throws {
    let all = try fixture { _ in }
    #expect(
      all.driver.reservedRegions(of: Self.device) == [
        ReservedRegion(range: 0xfee0_0000...0xfeef_ffff, kind: .msi),
        ReservedRegion(range: 0xfd_0000_0000...0xff_ffff_ffff, kind: .reserved),
      ])
    #expect(all.driver.enforcesCacheCoherency(for: Self.device))
    #expect(all.driver.capabilities(of: Self.device) == .dirtyTracking)
    let few = try fixture {
      $0.ignoresHyperTransportRange = true
      $0.hostFlags = false
    }
    #expect(few.driver.reservedRegions(of: Self.device).map(\.kind) == [.msi])
    #expect(few.driver.capabilities(of: Self.device) == [])
  }

  // MARK: Paging domains

  @Test("the flags of a paging domain select its table")
  func pagingDomains() throws {
    let fixture = try AMDViDriverFixture()
    func mode(_ flags: PagingDomainFlags) -> AMDViPagingDomain.Mode? {
      (try? fixture.makeDomain(flags))?.mode
    }
    #expect(mode([]) == .host)
    #expect(mode(.dirtyTracking) == .host)
    #expect(mode(.nestParent) == .host)
    #expect(mode([.nestParent, .dirtyTracking]) == .host)
    #expect(mode(.pasid) == .guest)
    for flags: PagingDomainFlags in [
      [.pasid, .nestParent], [.pasid, .dirtyTracking], .init(rawValue: 1 << 4),
      [.pasid, .nestParent, .dirtyTracking],
    ] {
      #expect(allocation(flags, fixture.driver) == .notSupported)
    }
    let data = UserData(
      type: 3, address: TestMemory().address, length: 32, memory: InProcessClient())
    #expect(
      failure { () throws(Errno) in
        _ = try fixture.driver.makePagingDomain([], for: Self.device, data: data)
      } == .notSupported)
    #expect(try fixture.makeDomain([]).dirtyTracking == nil)
    #expect(try fixture.makeDomain(.dirtyTracking).dirtyTracking != nil)
    #expect(try fixture.makeDomain([]).enforceCacheCoherency())
    #expect(try fixture.makeDomain(.pasid).enforceCacheCoherency())
  }

  @Test("flags that the unit does not support are refused")
  func lackingUnits() throws {
    let noFlags = try fixture { $0.hostFlags = false }.driver
    #expect(allocation(.dirtyTracking, noFlags) == .notSupported)
    #expect(allocation([.dirtyTracking, .nestParent], noFlags) == .notSupported)
    #expect(allocation(.nestParent, noFlags) == nil)
    for change: (inout AMDViCapabilities) -> Void in [
      { $0.guestTranslation = false }, { $0.guestIO = false },
    ] {
      let driver = try fixture(change).driver
      #expect(allocation(.nestParent, driver) == .notSupported)
      #expect(allocation(.pasid, driver) == .notSupported)
      #expect(allocation([], driver) == nil)
    }
    let physical = try fixture { $0.nestedGuestCR3 = false }.driver
    #expect(allocation(.nestParent, physical) == .notSupported)
    #expect(allocation(.pasid, physical) == nil)
    let noRequests = try fixture { $0.pageRequests = false }.driver
    #expect(allocation(.nestParent, noRequests) == nil)
    #expect(allocation(.pasid, noRequests) == .notSupported)
  }

  @Test(
    "aperture and page sizes of a domain follow the unit",
    arguments: [(4, UInt64(1) << 48 - 1), (5, 1 << 57 - 1), (6, .max)])
  func apertures(levels: Int, last: UInt64) throws {
    let driver = try fixture { $0.hostLevels = levels }.driver
    let host = try driver.makePagingDomain([], for: Self.device)
    #expect(host.aperture == 0...last)
    // Every power of two below half of the aperture except 512 GiB.
    let sizes = (UInt64(1) << UInt64(min(52, levels * 9 + 11)) - 4096) & ~(1 << 39)
    #expect(host.pageSizes == sizes)
    let guest = try driver.makePagingDomain(.pasid, for: Self.device)
    #expect(guest.aperture == 0...(1 << 47 - 1))
    #expect(guest.pageSizes == 1 << 12 | 1 << 21 | 1 << 30)
    let five = try fixture { $0.guestLevels = 5 }.driver
    #expect(
      try five.makePagingDomain(.pasid, for: Self.device).aperture == 0...(1 << 56 - 1))
  }

  // MARK: Attaching

  @Test("attach, replacement and detach write the device table entry")
  func entries() throws {
    let fixture = try AMDViDriverFixture()
    #expect(try fixture.entry().words[0] == 1)
    #expect(fixture.port.load(0).0.amdviEvent == .absent(.domain(.init(rawValue: 0)), at: 0))
    let host = try fixture.makeDomain([])
    try fixture.attach(host)
    var entry = try fixture.entry()
    #expect(entry.words[0] & ~0x000f_ffff_ffff_f000 == 3 | 3 << 9 | 3 << 61)
    #expect(entry.hostTable == host.root)
    #expect(entry.words[1] == UInt64(host.id.rawValue))
    try fixture.attach(host)
    #expect(try fixture.entry() == entry)

    let guest = try fixture.makeDomain(.pasid)
    try fixture.attach(guest)
    entry = try fixture.entry()
    // TV, GIoV, GV, GLX 1, IR, IW: 65,536 PASIDs take two levels.
    #expect(entry.words[0] & ~(7 << 58) == 3 | 1 << 54 | 1 << 55 | 1 << 56 | 3 << 61)
    #expect(entry.domain != guest.id)
    let table = try #require(fixture.memory.word(at: PhysicalAddress(entry.guestCR3Table)))
    let pointer = try #require(
      fixture.memory.word(at: PhysicalAddress(GuestCR3Entry.address(table))))
    #expect(pointer == guest.root.rawValue | 1)

    fixture.driver.block(Self.device, pasid: nil)
    #expect(try fixture.entry().words[0] == 1)
    #expect(try fixture.entry().words[1] == 0)
  }

  @Test(
    "the number of PASIDs decides the levels of the GCR3 table, up to those of the unit")
  func guestCR3Levels() throws {
    let plain = try AMDViDriverFixture(pasidBits: 0)
    try plain.attach(try plain.makeDomain(.pasid))
    #expect(try plain.entry().guestCR3Levels == 0)
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.guestCR3Levels = 0
    let flat = try AMDViDriverFixture(configuration, pasidBits: 16)
    let domain = try flat.makeDomain([])
    try flat.attach(domain)
    let tables = flat.memory.tablePagesInUse
    let guest = try flat.makeDomain(.pasid)
    #expect(failure { () throws(Errno) in try flat.attach(guest) } == .invalidArgument)
    #expect(flat.memory.tablePagesInUse == tables + 1)
    #expect(try flat.entry().hostTable == domain.root)
  }

  @Test("a domain of another machine and a device beyond the device table are refused")
  func otherMachines() throws {
    let fixture = try AMDViDriverFixture()
    let other = try AMDViDriverFixture()
    #expect(failure { () throws(Errno) in try fixture.attach(other.parent) } == .invalidArgument)
    let nested = try other.makeNested(gcr3: other.guest.allocate())
    #expect(failure { () throws(Errno) in try fixture.attach(nested) } == .invalidArgument)
    #expect(
      failure { () throws(Errno) in
        _ = try fixture.driver.makeVirtualIOMMU(
          type: 1, on: other.parent, for: Self.device, host: RecordingVIOMMUHost(), data: nil)
      } == .invalidArgument)
    let far = RequesterID(bus: 0xff, device: 0, function: 0)
    #expect(
      failure { () throws(Errno) in
        try fixture.driver.attach(fixture.parent, to: far, pasid: nil)
      } == .operationNotSupportedByDevice)
  }

  @Test("no domain can be attached to a PASID")
  func pasids() throws {
    let fixture = try AMDViDriverFixture()
    let nested = try fixture.makeNested(gcr3: fixture.guest.allocate())
    let domains: [any Domain] = [
      try fixture.makeDomain([]), try fixture.makeDomain(.pasid), nested,
    ]
    for domain in domains {
      #expect(
        failure { () throws(Errno) in
          try fixture.attach(domain, pasid: PASID(rawValue: 1))
        } == .notSupported)
    }
    fixture.driver.block(Self.device, pasid: PASID(rawValue: 1))
  }

  // MARK: vIOMMUs

  @Test("a vIOMMU of any type can be made, and nested domains require the data of the uAPI")
  func virtualUnits() throws {
    let fixture = try AMDViDriverFixture(guestTableInterface: .kernel)
    for type: UInt32 in [1, 2, 3, 77] {
      #expect(fixture.driver.supportsVirtualIOMMU(type: type, for: Self.device))
    }
    #expect(
      failure { () throws(Errno) in
        _ = try fixture.makeNested(gcr3: fixture.guest.allocate())
      } == .notSupported)
    let data = UserData(
      type: 3, address: TestMemory().address, length: 32, memory: InProcessClient())
    #expect(
      failure { () throws(Errno) in
        _ = try fixture.driver.makeNestedDomain(
          on: fixture.parent, for: Self.device, flags: [], data: data)
      } == .notSupported)
    let array = UserDataArray(
      type: 1, address: 0, entryLength: 16, count: 0, memory: InProcessClient())
    var handled = 0
    #expect(
      failure { () throws(Errno) in
        try fixture.viommu.invalidate(array, handled: &handled)
      } == .notSupported)
  }

  @Test("type and length of a guest's device table entry are checked")
  func nestedData() throws {
    let fixture = try AMDViDriverFixture()
    func make(type: UInt32, length: UInt64) -> Errno? {
      failure { () throws(Errno) in
        _ = try fixture.makeNested([0, 0, 0, 0], type: type, length: length)
      }
    }
    #expect(make(type: 3, length: 32) == nil)
    for type: UInt32 in [0, 1, 2, 4] { #expect(make(type: type, length: 32) == .notSupported) }
    for length: UInt64 in [8, 31, 33, 40] {
      #expect(make(type: 3, length: length) == .invalidArgument)
    }
  }

  @Test(
    "the fields of a guest's device table entry are checked",
    arguments: [
      ([0, 0, 0, 0], nil),
      // Only an entry with V and GV needs a GCR3 table.
      ([1 << 55, 0, 0, 0], nil), ([1, 0, 0, 0], nil), ([1 | 1 << 55, 0, 0, 0], .invalidArgument),
      ([1 | 1 << 55 | 1 << 58, 0, 0, 0], nil), ([1 | 1 << 55, 1 << 16, 0, 0], nil),
      ([1 | 1 << 55, 1 << 43, 0, 0], nil),
      // Mode and host table.
      ([1 << 9, 0, 0, 0], .invalidArgument), ([7 << 9, 0, 0, 0], .invalidArgument),
      ([1 << 12, 0, 0, 0], .invalidArgument), ([1 << 51, 0, 0, 0], .invalidArgument),
      // GLX, GuestPagingMode.
      ([1 << 56, 0, 0, 0], nil), ([2 << 56, 0, 0, 0], nil),
      ([3 << 56, 0, 0, 0], .invalidArgument),
      ([0, 0, 1 << 54, 0], .notSupported), ([0, 0, 2 << 54, 0], .invalidArgument),
      ([0, 0, 3 << 54, 0], .invalidArgument),
      // The other fields are not checked.
      ([~(1 | 7 << 9 | 0x000f_ffff_ffff_f000 | 1 << 55 | 3 << 56), ~0, ~(3 << 54), ~0], nil),
    ] as [([UInt64], Errno?)])
  func guestEntries(_ words: [UInt64], _ expected: Errno?) throws {
    let fixture = try AMDViDriverFixture()
    #expect(failure { () throws(Errno) in _ = try fixture.makeNested(words) } == expected)
  }

  @Test("guest tables have five levels when the unit supports them")
  func fiveLevels() throws {
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.guestLevels = 5
    let fixture = try AMDViDriverFixture(configuration)
    _ = try fixture.makeNested([0, 0, 1 << 54, 0])
  }
}
