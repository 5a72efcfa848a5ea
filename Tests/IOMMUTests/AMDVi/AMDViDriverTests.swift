import CUAPI
import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite("amd: what the driver accepts and refuses")
struct AMDViDriverTests {
  private static let device = AMDViMachine.device

  private func failure(_ body: () throws(Errno) -> Void) -> Errno? { AMDViMachine.failure(body) }

  private func machine(
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

  // MARK: What is told

  @Test("hardware information: both feature registers")
  func hardwareInformation() throws {
    let machine = try AMDViMachine()
    for type: UInt32 in [0, 4] {
      let info = try #require(
        try machine.driver.hardwareInfo(of: Self.device, type: type))
      #expect(info.type == 4)
      let value = info.bytes.withUnsafeBytes { $0.loadUnaligned(as: iommu_hw_info_amd.self) }
      #expect(value.efr == machine.unit.capabilities.features)
      #expect(value.efr2 == machine.unit.capabilities.features2)
    }
    for type: UInt32 in [1, 2, 3, 5] {
      #expect(
        failure { () throws(Errno) in
          _ = try machine.driver.hardwareInfo(of: Self.device, type: type)
        } == .notSupported)
    }
  }

  @Test("reserved regions, and what depends on the unit")
  func regions() throws {
    let all = try machine { _ in }
    #expect(
      all.driver.reservedRegions(of: Self.device) == [
        ReservedRegion(range: 0xfee0_0000...0xfeef_ffff, kind: .msi),
        ReservedRegion(range: 0xfd_0000_0000...0xff_ffff_ffff, kind: .reserved),
      ])
    #expect(all.driver.enforcesCacheCoherency(for: Self.device))
    #expect(all.driver.capabilities(of: Self.device) == .dirtyTracking)
    let few = try machine {
      $0.ignoresHyperTransportRange = true
      $0.hostFlags = false
    }
    #expect(few.driver.reservedRegions(of: Self.device).map(\.kind) == [.msi])
    #expect(few.driver.capabilities(of: Self.device) == [])
  }

  // MARK: Paging domains

  @Test("paging domains: flags and tables")
  func pagingDomains() throws {
    let machine = try AMDViMachine()
    func mode(_ flags: PagingDomainFlags) -> AMDViPagingDomain.Mode? {
      (try? machine.make(flags))?.mode
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
      #expect(allocation(flags, machine.driver) == .notSupported)
    }
    let data = UserData(
      type: 3, address: TestMemory().address, length: 32, memory: InProcessClient())
    #expect(
      failure { () throws(Errno) in
        _ = try machine.driver.makePagingDomain([], for: Self.device, data: data)
      } == .notSupported)
    #expect(try machine.make([]).dirtyTracking == nil)
    #expect(try machine.make(.dirtyTracking).dirtyTracking != nil)
    #expect(try machine.make([]).enforceCacheCoherency())
    #expect(try machine.make(.pasid).enforceCacheCoherency())
  }

  @Test("flags that the unit cannot do")
  func lackingUnits() throws {
    let noFlags = try machine { $0.hostFlags = false }.driver
    #expect(allocation(.dirtyTracking, noFlags) == .notSupported)
    #expect(allocation([.dirtyTracking, .nestParent], noFlags) == .notSupported)
    #expect(allocation(.nestParent, noFlags) == nil)
    for change: (inout AMDViCapabilities) -> Void in [
      { $0.guestTranslation = false }, { $0.guestIO = false },
    ] {
      let driver = try machine(change).driver
      #expect(allocation(.nestParent, driver) == .notSupported)
      #expect(allocation(.pasid, driver) == .notSupported)
      #expect(allocation([], driver) == nil)
    }
    let physical = try machine { $0.nestedGuestCR3 = false }.driver
    #expect(allocation(.nestParent, physical) == .notSupported)
    #expect(allocation(.pasid, physical) == nil)
    let noRequests = try machine { $0.pageRequests = false }.driver
    #expect(allocation(.nestParent, noRequests) == nil)
    #expect(allocation(.pasid, noRequests) == .notSupported)
  }

  @Test(
    "apertures and page sizes",
    arguments: [(4, UInt64(1) << 48 - 1), (5, 1 << 57 - 1), (6, .max)])
  func apertures(levels: Int, last: UInt64) throws {
    let driver = try machine { $0.hostLevels = levels }.driver
    let host = try driver.makePagingDomain([], for: Self.device)
    #expect(host.aperture == 0...last)
    // Every power of two, but not 512 GiB, below half of what can be mapped.
    let sizes = (UInt64(1) << UInt64(min(52, levels * 9 + 11)) - 4096) & ~(1 << 39)
    #expect(host.pageSizes == sizes)
    let guest = try driver.makePagingDomain(.pasid, for: Self.device)
    #expect(guest.aperture == 0...(1 << 47 - 1))
    #expect(guest.pageSizes == 1 << 12 | 1 << 21 | 1 << 30)
    let five = try machine { $0.guestLevels = 5 }.driver
    #expect(
      try five.makePagingDomain(.pasid, for: Self.device).aperture == 0...(1 << 56 - 1))
  }

  // MARK: Attaching

  @Test("at rest, attached, attached again, detached: the device table entry")
  func entries() throws {
    let machine = try AMDViMachine()
    #expect(try machine.entry().words[0] == 1)
    #expect(machine.port.load(0).0.amdviEvent == .absent(.domain(.init(rawValue: 0)), at: 0))
    let host = try machine.make([])
    try machine.attach(host)
    var entry = try machine.entry()
    #expect(entry.words[0] & ~0x000f_ffff_ffff_f000 == 3 | 3 << 9 | 3 << 61)
    #expect(entry.hostTable == host.root)
    #expect(entry.words[1] == UInt64(host.id.rawValue))
    try machine.attach(host)
    #expect(try machine.entry() == entry)

    let guest = try machine.make(.pasid)
    try machine.attach(guest)
    entry = try machine.entry()
    // TV, GIoV, GV, GLX 1, IR, IW: 65,536 PASIDs take two levels.
    #expect(entry.words[0] & ~(7 << 58) == 3 | 1 << 54 | 1 << 55 | 1 << 56 | 3 << 61)
    #expect(entry.domain != guest.id)
    let table = try #require(machine.memory.word(at: PhysicalAddress(entry.guestCR3Table)))
    let pointer = try #require(
      machine.memory.word(at: PhysicalAddress(GuestCR3Entry.address(table))))
    #expect(pointer == guest.root.rawValue | 1)

    machine.driver.block(Self.device, pasid: nil)
    #expect(try machine.entry().words[0] == 1)
    #expect(try machine.entry().words[1] == 0)
  }

  @Test(
    "a device without PASIDs has a GCR3 table of one level; PASIDs may need more than there are")
  func guestCR3Levels() throws {
    let plain = try AMDViMachine(pasidBits: 0)
    try plain.attach(try plain.make(.pasid))
    #expect(try plain.entry().guestCR3Levels == 0)
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.guestCR3Levels = 0
    let flat = try AMDViMachine(configuration, pasidBits: 16)
    let domain = try flat.make([])
    try flat.attach(domain)
    let tables = flat.memory.tablePagesInUse
    let guest = try flat.make(.pasid)
    #expect(failure { () throws(Errno) in try flat.attach(guest) } == .invalidArgument)
    #expect(flat.memory.tablePagesInUse == tables + 1)
    #expect(try flat.entry().hostTable == domain.root)
  }

  @Test("a domain of another unit, and a device that the table does not reach")
  func otherUnits() throws {
    let machine = try AMDViMachine()
    let other = try AMDViMachine()
    #expect(failure { () throws(Errno) in try machine.attach(other.parent) } == .invalidArgument)
    let nested = try other.nested(gcr3: other.guest.take())
    #expect(failure { () throws(Errno) in try machine.attach(nested) } == .invalidArgument)
    #expect(
      failure { () throws(Errno) in
        _ = try machine.driver.makeVirtualIOMMU(
          type: 1, on: other.parent, for: Self.device, host: VirtualHost(), data: nil)
      } == .invalidArgument)
    let far = RequesterID(bus: 0xff, device: 0, function: 0)
    #expect(
      failure { () throws(Errno) in
        try machine.driver.attach(machine.parent, to: far, pasid: nil)
      } == .operationNotSupportedByDevice)
  }

  @Test("no domain can be attached to a PASID")
  func pasids() throws {
    let machine = try AMDViMachine()
    let nested = try machine.nested(gcr3: machine.guest.take())
    let domains: [any Domain] = [try machine.make([]), try machine.make(.pasid), nested]
    for domain in domains {
      #expect(
        failure { () throws(Errno) in
          try machine.attach(domain, pasid: PASID(rawValue: 1))
        } == .notSupported)
    }
    machine.driver.block(Self.device, pasid: PASID(rawValue: 1))
  }

  // MARK: Virtual units

  @Test("virtual units: any type; nested domains only as the uAPI describes them")
  func virtualUnits() throws {
    let machine = try AMDViMachine(guestTableInterface: .kernel)
    for type: UInt32 in [1, 2, 3, 77] {
      #expect(machine.driver.supportsVirtualIOMMU(type: type, for: Self.device))
    }
    #expect(
      failure { () throws(Errno) in
        _ = try machine.nested(gcr3: machine.guest.take())
      } == .notSupported)
    let data = UserData(
      type: 3, address: TestMemory().address, length: 32, memory: InProcessClient())
    #expect(
      failure { () throws(Errno) in
        _ = try machine.driver.makeNestedDomain(
          on: machine.parent, for: Self.device, flags: [], data: data)
      } == .notSupported)
    let array = UserDataArray(
      type: 1, address: 0, entryLength: 16, count: 0, memory: InProcessClient())
    var handled = 0
    #expect(
      failure { () throws(Errno) in
        try machine.virtual.invalidate(array, handled: &handled)
      } == .notSupported)
  }

  @Test("type and length of a guest's entry")
  func nestedData() throws {
    let machine = try AMDViMachine()
    func make(type: UInt32, length: UInt64) -> Errno? {
      failure { () throws(Errno) in
        _ = try machine.nested([0, 0, 0, 0], type: type, length: length)
      }
    }
    #expect(make(type: 3, length: 32) == nil)
    for type: UInt32 in [0, 1, 2, 4] { #expect(make(type: type, length: 32) == .notSupported) }
    for length: UInt64 in [8, 31, 33, 40] {
      #expect(make(type: 3, length: length) == .invalidArgument)
    }
  }

  @Test(
    "a guest's entry",
    arguments: [
      ([0, 0, 0, 0], nil),
      // Without V or GV nobody asks for a GCR3 table; with both it must be somewhere.
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
      // Nothing else is looked at.
      ([~(1 | 7 << 9 | 0x000f_ffff_ffff_f000 | 1 << 55 | 3 << 56), ~0, ~(3 << 54), ~0], nil),
    ] as [([UInt64], Errno?)])
  func guestEntries(_ words: [UInt64], _ expected: Errno?) throws {
    let machine = try AMDViMachine()
    #expect(failure { () throws(Errno) in _ = try machine.nested(words) } == expected)
  }

  @Test("five levels where the unit has them")
  func fiveLevels() throws {
    var configuration = AMDViUnit.Configuration()
    configuration.capabilities.guestLevels = 5
    let machine = try AMDViMachine(configuration)
    _ = try machine.nested([0, 0, 1 << 54, 0])
  }
}
