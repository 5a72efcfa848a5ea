// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite("arm-smmu-v3: arguments of the driver")
struct SMMUv3DriverTests {
  private static let device = SMMUv3Fixture.stream

  // MARK: Domains

  @Test("the flags of a paging domain select its stage")
  func pagingDomains() throws {
    let fixture = try SMMUv3Fixture()
    func stage(_ flags: PagingDomainFlags) -> SMMUv3PagingDomain.Stage? {
      let domain = try? fixture.driver.makePagingDomain(flags, for: Self.device)
      return (domain as? SMMUv3PagingDomain)?.stage
    }
    #expect(stage([]) == .stage1)
    #expect(stage(.pasid) == .stage1)
    #expect(stage(.dirtyTracking) == .stage1)
    #expect(stage([.pasid, .dirtyTracking]) == .stage1)
    #expect(stage(.nestParent) == .stage2)
    for flags: PagingDomainFlags in [
      [.nestParent, .pasid], [.nestParent, .dirtyTracking], .init(rawValue: 1 << 4),
    ] {
      #expect(
        failure { () throws(Errno) in
          _ = try fixture.driver.makePagingDomain(flags, for: Self.device)
        } == .notSupported)
    }
    let memory = TestMemory()
    let client = InProcessClient()
    let data = UserData(type: 2, address: memory.address, length: 16, memory: client)
    #expect(
      failure { () throws(Errno) in
        _ = try fixture.driver.makePagingDomain([], for: Self.device, data: data)
      } == .notSupported)
  }

  @Test("a unit with one stage has no nesting, and PASIDs require stage 1")
  func singleStages() throws {
    let memory = try PhysicalMemory(.test)
    var configuration = SMMUv3Unit.Configuration()
    configuration.capabilities.stage1 = false
    let second = try SMMUv3Driver(
      unit: SMMUv3Unit(configuration, memory: memory), memory: memory)
    let domain = try second.makePagingDomain([], for: Self.device) as? SMMUv3PagingDomain
    #expect(domain?.stage == .stage2)
    #expect(
      domain?.aperture.upperBound == 1 << UInt64(second.unit.capabilities.outputAddressBits) - 1)
    for flags: PagingDomainFlags in [.nestParent, .pasid, .dirtyTracking] {
      #expect(
        failure { () throws(Errno) in
          _ = try second.makePagingDomain(flags, for: Self.device)
        } == .notSupported)
    }
    #expect(!second.supportsVirtualIOMMU(type: 1, for: Self.device))
    configuration.capabilities.stage1 = true
    configuration.capabilities.stage2 = false
    let first = try SMMUv3Driver(
      unit: SMMUv3Unit(configuration, memory: memory), memory: memory)
    #expect(
      failure { () throws(Errno) in
        _ = try first.makePagingDomain(.nestParent, for: Self.device)
      } == .notSupported)
    #expect(!first.supportsVirtualIOMMU(type: 1, for: Self.device))
  }

  @Test("a domain of another unit is EINVAL")
  func otherUnits() throws {
    let fixture = try SMMUv3Fixture()
    let other = try SMMUv3Driver(
      unit: SMMUv3Unit(.init(), memory: fixture.memory), memory: fixture.memory)
    for flags: PagingDomainFlags in [[], .nestParent] {
      let domain = try other.makePagingDomain(flags, for: Self.device)
      #expect(failure { () throws(Errno) in try fixture.attach(domain) } == .invalidArgument)
    }
    let parent = try other.makePagingDomain(.nestParent, for: Self.device)
    #expect(
      failure { () throws(Errno) in
        _ = try fixture.driver.makeVirtualIOMMU(
          type: 1, on: parent, for: Self.device, host: fixture.host, data: nil)
      } == .invalidArgument)
    #expect(
      failure { () throws(Errno) in
        try other.attach(try fixture.makeNested(0), to: Self.device, pasid: nil)
      } == .invalidArgument)
  }

  // MARK: Coherency

  @Test(
    "a device that is not coherent prevents enforced coherency, and nests only with forced write-back"
  )
  func coherency() throws {
    let fixture = try SMMUv3Fixture()
    var properties = DeviceProperties()
    properties.isCoherent = false
    let stray = RequesterID.test(2)
    try fixture.driver.probe(stray, properties)
    #expect(fixture.driver.enforcesCacheCoherency(for: Self.device))
    #expect(!fixture.driver.enforcesCacheCoherency(for: stray))
    #expect(fixture.driver.supportsVirtualIOMMU(type: 1, for: stray))
    #expect(!fixture.driver.supportsVirtualIOMMU(type: 2, for: Self.device))

    let domain = try fixture.driver.makePagingDomain([], for: stray)
    try fixture.driver.attach(domain, to: stray, pasid: nil)
    #expect(!domain.enforceCacheCoherency())
    fixture.driver.block(stray, pasid: nil)
    #expect(domain.enforceCacheCoherency())
    #expect(
      failure { () throws(Errno) in
        try fixture.driver.attach(domain, to: stray, pasid: nil)
      } == .invalidArgument)

    var configuration = SMMUv3Unit.Configuration()
    configuration.capabilities.forcedWriteBack = false
    let plain = try SMMUv3Driver(
      unit: SMMUv3Unit(configuration, memory: fixture.memory), memory: fixture.memory)
    try plain.probe(stray, properties)
    try plain.probe(Self.device)
    #expect(!plain.supportsVirtualIOMMU(type: 1, for: stray))
    #expect(plain.supportsVirtualIOMMU(type: 1, for: Self.device))
  }

  // MARK: Stream table entries of guests

  @Test(
    "the fields of a guest's stream table entry are checked",
    arguments: [
      (0, 0, nil), (~1, ~0, nil),
      (1, 0, nil), (1 | 4 << 1, 0, nil), (1 | 5 << 1, 0, nil),
      (1 | 1 << 1, 0, .ioError), (1 | 2 << 1, 0, .ioError), (1 | 3 << 1, 0, .ioError),
      (1 | 6 << 1, 0, .ioError), (1 | 7 << 1, 0, .ioError),
      (1 | 5 << 1 | 3 << 4 | 0xf_ffff_ffff_ffc0 | 31 << 59, 0xff | 1 << 27 | 1 << 28, nil),
      (1 | 5 << 1 | 1 << 52, 0, .ioError), (1 | 5 << 1 | 1 << 58, 0, .ioError),
      (1 | 5 << 1, 1 << 8, .ioError), (1 | 5 << 1, 1 << 19, .ioError),
      (1 | 5 << 1, 1 << 25, .ioError), (1 | 5 << 1, 1 << 30, .ioError),
      (1 | 5 << 1, 1 << 44, .ioError), (1 | 5 << 1, 1 << 63, .ioError),
      (1 | 5 << 1, 2 << 28, .ioError), (1 | 5 << 1, 3 << 28, .ioError),
      (1 | 4 << 1, 2 << 28, .ioError),
    ] as [(UInt64, UInt64, Errno?)])
  func guestEntries(_ first: UInt64, _ second: UInt64, _ expected: Errno?) throws {
    let fixture = try SMMUv3Fixture()
    #expect(
      failure { () throws(Errno) in _ = try fixture.makeNested(first, second) } == expected)
  }

  @Test("flags, type and length of a nested domain are checked")
  func nestedData() throws {
    let fixture = try SMMUv3Fixture()
    let memory = TestMemory()
    func make(_ flags: NestedDomainFlags, type: UInt32, length: UInt64) -> Errno? {
      failure { () throws(Errno) in
        _ = try fixture.viommu.makeNestedDomain(
          for: Self.device, flags: flags,
          data: UserData(
            type: type, address: memory.address, length: length, memory: InProcessClient()))
      }
    }
    #expect(make([], type: 2, length: 16) == nil)
    #expect(make(.pasid, type: 2, length: 16) == .notSupported)
    #expect(make([], type: 1, length: 16) == .invalidArgument)
    #expect(make([], type: 2, length: 15) == .invalidArgument)
    #expect(make([], type: 2, length: 17) == .invalidArgument)
    #expect(
      failure { () throws(Errno) in
        _ = try fixture.driver.makeNestedDomain(
          on: fixture.parent, for: Self.device, flags: [],
          data: UserData(
            type: 2, address: memory.address, length: 16, memory: InProcessClient()))
      } == .notSupported)
  }

  // MARK: Attaching

  @Test("only a guest entry with stage 1 requires a vDEVICE")
  func names() throws {
    let fixture = try SMMUv3Fixture()
    let translating = try fixture.makeStage1(fixture.guest.allocate())
    #expect(
      failure { () throws(Errno) in try fixture.attach(translating) }
        == .noSuchFileOrDirectory)
    for words in [0, 1, 1 | 4 << 1] as [UInt64] { try fixture.attach(fixture.makeNested(words)) }
    fixture.addVirtualDevice()
    try fixture.attach(translating)
  }

  @Test("a PASID is attached in the driver's context descriptor table")
  func pasids() throws {
    let fixture = try SMMUv3Fixture()
    fixture.addVirtualDevice()
    let pasid = PASID(rawValue: 3)
    let first = try fixture.driver.makePagingDomain(.pasid, for: Self.device)
    let nested = try fixture.makeStage1(fixture.guest.allocate())
    func attach(_ domain: any Domain, _ pasid: PASID?) -> Errno? {
      failure { () throws(Errno) in try fixture.attach(domain, pasid: pasid) }
    }
    #expect(attach(fixture.parent, pasid) == .invalidArgument)
    #expect(attach(nested, pasid) == .notSupported)
    try fixture.attach(fixture.parent)
    #expect(attach(first, pasid) == .invalidArgument)
    try fixture.attach(nested)
    #expect(attach(first, pasid) == .invalidArgument)
    fixture.driver.block(Self.device, pasid: nil)
    #expect(attach(first, pasid) == nil)
    #expect(attach(fixture.parent, nil) == .resourceBusy)
    #expect(attach(nested, nil) == .resourceBusy)
    #expect(attach(first, nil) == nil)
    #expect(attach(first, PASID(rawValue: 1 << 16)) == .invalidArgument)
    fixture.driver.block(Self.device, pasid: pasid)
    #expect(attach(fixture.parent, nil) == nil)
  }

  // MARK: Commands

  private typealias Command = (UInt64, UInt64, Bool)
  private static let stream = SMMUv3Fixture.virtualStream << 32

  @Test(
    "a guest command may set only the bits of its operation",
    arguments: [
      (0x30, 0, true), (0x30 | 1 << 32, 0, false), (0x30 | 1 << 8, 0, false), (0x30, 1, false),
      (0x10 | 0xffff << 32, 0, true), (0x10 | 1 << 48, 0, false), (0x10, 1, false),
      (0x11 | 0xffff_ffff << 32, 0, true), (0x11, 1, false), (0x11 | 1 << 12, 0, false),
      (0x12 | 0xffff_ffff << 32, ~0xfff | 1, true), (0x12, 2, false),
      (0x12 | 1 << 12, 0, false), (0x12, 1 << 8, false), (0x12, 1 << 10, false),
      (0x12, 1 << 10 | 1 << 8, true), (0x12 | 1 << 12, 1 << 10, true),
      (0x12 | 1 << 20, 2 << 10, true), (0x12, 2 << 10 | 1 << 8, false),
      (0x12, 2 << 10 | 2 << 8, true), (0x12 | 1 << 25, 1 << 10, false),
      (0x12 | 1 << 17, 1 << 10 | 1 << 8, false), (0x12, 1 << 10 | 1 << 8 | 1 << 7, false),
      (0x13 | 0xffff << 32, ~0xfff | 1, true), (0x13 | 1 << 48, 0, false),
      (0x05 | stream | 0xf_ffff << 12, 1, true), (0x05 | stream | 1 << 11, 0, false),
      (0x05 | stream | 1 << 10, 0, false), (0x05 | stream, 2, false), (0x05 | 1 << 32, 0, false),
      (0x06 | stream, 0, true), (0x06 | stream | 1 << 12, 0, false), (0x06 | stream, 1, false),
      (0x06 | 1 << 32, 0, false),
      (0x40 | stream, 0, false),
      (0x00, 0, false), (0x01 | stream, 0, false), (0x03 | stream, 1, false),
      (0x04, 31, false), (0x20, 0, false), (0x28, 0, false), (0x2a, 0, false),
      (0x41 | stream, 0, false), (0x44 | stream, 0, false), (0x46, 0, false),
      (0xff, 0, false),
    ] as [(UInt64, UInt64, Bool)])
  func commands(_ lower: UInt64, _ upper: UInt64, _ isGood: Bool) throws {
    let fixture = try SMMUv3Fixture()
    fixture.addVirtualDevice()
    let result = fixture.send([SMMUv3Command(lower: lower, upper: upper)])
    #expect(result.error == (isGood ? nil : .ioError))
    #expect(result.handled == (isGood ? 1 : 0))
  }

  @Test(
    "range and ATS commands require the capabilities of the unit",
    arguments: [
      (0x40 | stream | 0xf_ffff << 12 | 1 << 11 | 1 << 9, 52, true), (0x40 | stream, 53, false),
      (0x40 | stream, 63, false), (0x40 | 1 << 32, 0, false), (0x40 | stream | 1 << 10, 0, false),
      (0x40 | stream, 1 << 11, false),
      (0x12 | 0xff << 48, 0, true), (0x12 | 0x100 << 48, 0, false), (0x11 | 0x100 << 48, 0, false),
      (0x12, 1 << 10 | 1 << 8, false), (0x12 | 1 << 12, 0, false),
      (0x13 | 1 << 20, 0, false),
    ] as [(UInt64, UInt64, Bool)])
  func unitCommands(_ lower: UInt64, _ upper: UInt64, _ isGood: Bool) throws {
    var configuration = SMMUv3Unit.Configuration()
    configuration.capabilities.ats = true
    configuration.capabilities.wideASIDs = false
    configuration.capabilities.rangeInvalidation = false
    let fixture = try SMMUv3Fixture(configuration)
    fixture.addVirtualDevice()
    let result = fixture.send([SMMUv3Command(lower: lower, upper: upper)])
    #expect(result.error == (isGood ? nil : .ioError))
  }

  @Test("a guest command has no substream on a unit without substreams")
  func commandsWithoutSubstreams() throws {
    var configuration = SMMUv3Unit.Configuration()
    configuration.capabilities.ats = true
    configuration.capabilities.substreamBits = 0
    let fixture = try SMMUv3Fixture(configuration, pasidBits: 0)
    fixture.addVirtualDevice()
    for (lower, isGood) in [
      (0x05, true), (0x05 | 1 << 12, false), (0x40, true), (0x40 | 1 << 12, false),
      (0x40 | 1 << 11, false), (0x40 | 1 << 9, false),
    ] as [(UInt64, Bool)] {
      let command = SMMUv3Command(lower: lower | Self.stream, upper: 0)
      #expect(fixture.send([command]).error == (isGood ? nil : .ioError))
    }
  }

  @Test("length and type of a command array are checked")
  func commandArrays() throws {
    let fixture = try SMMUv3Fixture()
    let words = TestMemory()
    words.store(0x30 as UInt64)
    func send(type: UInt32, length: Int, count: Int) -> Errno? {
      failure { () throws(Errno) in
        var handled = 0
        try fixture.viommu.invalidate(
          UserDataArray(
            type: type, address: words.address, entryLength: length, count: count,
            memory: InProcessClient()),
          handled: &handled)
      }
    }
    #expect(send(type: 1, length: 16, count: 0) == .invalidArgument)
    #expect(send(type: 2, length: 16, count: 1) == .invalidArgument)
    // A shorter entry is extended by zeros. The surplus of a longer entry must be zero.
    #expect(send(type: 1, length: 8, count: 1) == nil)
    #expect(send(type: 1, length: 24, count: 1) == nil)
    words.store(1 as UInt64, at: 16)
    #expect(send(type: 1, length: 24, count: 1) == .argListTooLong)
  }

  /// arm-smmu-v3: arm_vsmmu_cache_invalidate() allocates an array of all commands by kmalloc(), of
  /// at most 4 MiB (KMALLOC_MAX_SIZE), before it checks the type.
  @Test("more commands than the kernel has memory for fail with ENOMEM, and the count stays")
  func hugeCommandArrays() throws {
    let fixture = try SMMUv3Fixture()
    func send(type: UInt32, count: Int) -> (Errno?, handled: Int) {
      var handled = 0
      let error = failure { () throws(Errno) in
        // Nothing can be read at the address.
        try fixture.viommu.invalidate(
          UserDataArray(
            type: type, address: 4096, entryLength: 16, count: count, memory: InProcessClient()),
          handled: &handled)
      }
      return (error, handled)
    }
    #expect(send(type: 1, count: 1 << 18) == (.badAddress, 0))
    #expect(send(type: 2, count: 1 << 18) == (.invalidArgument, 0))
    for count in [1 << 18 + 1, 1 << 19] {
      #expect(send(type: 1, count: count) == (.noMemory, count))
      #expect(send(type: 2, count: count) == (.noMemory, count))
    }
  }

  // MARK: Hardware information

  @Test("hardware information is returned by type")
  func hardwareInformation() throws {
    let fixture = try SMMUv3Fixture()
    for type: UInt32 in [0, 2] {
      let info = try #require(try fixture.driver.hardwareInfo(of: Self.device, type: type))
      #expect(info.type == 2)
      #expect(info.bytes.count == 40)
      let words = info.bytes.withUnsafeBytes { Array($0.bindMemory(to: UInt32.self)) }
      #expect(Array(words[2..<8]) == fixture.unit.capabilities.identification)
      #expect(words[9] == 2)
    }
    for type: UInt32 in [1, 3, 4] {
      #expect(
        failure { () throws(Errno) in
          _ = try fixture.driver.hardwareInfo(of: Self.device, type: type)
        } == .notSupported)
    }
    #expect(
      fixture.driver.reservedRegions(of: Self.device)
        == [ReservedRegion(range: 0x800_0000...0x80f_ffff, kind: .softwareMSI)])
    #expect(fixture.driver.capabilities(of: Self.device) == .dirtyTracking)
  }

  @Test("a stream ID that the unit does not have is ERANGE")
  func streams() throws {
    let memory = try PhysicalMemory(.test)
    var configuration = SMMUv3Unit.Configuration()
    configuration.capabilities.streamBits = 8
    let driver = try SMMUv3Driver(
      unit: SMMUv3Unit(configuration, memory: memory), memory: memory)
    #expect(
      failure { () throws(Errno) in try driver.probe(RequesterID(rawValue: 0x100)) }
        == .outOfRange)
    try driver.probe(RequesterID(rawValue: 0xff))
  }
}
