// Bound devices and what they are attached to.

import CUAPI
import IOMMU
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

/// A machine of one unit.
private struct Bench {
  let driver: RecordingDriver
  let file: ControlFile

  init(_ driver: RecordingDriver = RecordingDriver()) throws {
    self.driver = driver
    file = try ControlFile()
  }

  func device(_ number: UInt8, in group: IOMMUGroup? = nil, pasidWidth: Int = 0) -> PhysicalDevice {
    PhysicalDevice(
      name: "device\(number)",
      requesterID: RequesterID(bus: 1, device: number, function: 0), driver: driver,
      group: group ?? IOMMUGroup(id: Int(number)), pasidWidth: pasidWidth)
  }

  func domain(of device: PhysicalDevice, _ pasid: PASID? = nil) -> RecordingDomain? {
    driver.domain(of: device.requesterID, pasid: pasid)
  }
}

@Suite struct BindTests {
  @Test func bindAndUnbind() throws {
    let bench = try Bench()
    let context = try bench.file.context
    let bound = try context.bind(bench.device(0))
    #expect(bound.id == ObjectID(1))
    #expect(bench.file.destroy(1) == .resourceBusy)
    bound.unbind()
    #expect(bench.file.destroy(1) == .noSuchFileOrDirectory)
    #expect(try bench.file.makeIOAS() == 1)
    bench.file.close()
  }

  /// A group has one owner (EPERM for others), and is free again with the last device.
  @Test func ownership() throws {
    let bench = try Bench()
    let other = try ControlFile()
    let group = IOMMUGroup(id: 7)
    let (first, second) = (bench.device(0, in: group), bench.device(1, in: group))
    let bound = try bench.file.context.bind(first)
    #expect(try bench.file.context.hasGroup(group))
    #expect(try !other.context.hasGroup(group))
    #expect(throws: Errno.notPermitted) { try other.context.bind(second) }
    #expect(try other.makeIOAS() == 1, "the failed bind left no id behind")
    let sibling = try bench.file.context.bind(second)
    bound.unbind()
    #expect(throws: Errno.notPermitted) { try other.context.bind(first) }
    sibling.unbind()
    try other.context.bind(first).unbind()
    bench.file.close()
    other.close()
  }

  /// A bound device holds the context after the file is closed.
  @Test func outlivesItsFile() throws {
    let bench = try Bench()
    let device = bench.device(0)
    let bound = try bench.file.context.bind(device)
    var target = ObjectID(try bench.file.makeIOAS())
    try bound.attach(to: &target)
    bench.file.close()
    #expect(bench.domain(of: device) != nil)
    bound.detach()
    #expect(bench.domain(of: device) == nil)
    bound.unbind()
    #expect(try Bench().file.context.bind(device).id == ObjectID(1), "the group is free again")
  }
}

@Suite struct AttachTests {
  @Test func automaticHWPT() throws {
    let bench = try Bench()
    defer { bench.file.close() }
    let device = bench.device(0)
    let ioas = try bench.file.makeIOAS()
    let bound = try bench.file.context.bind(device)
    var target = ObjectID(ioas)
    try bound.attach(to: &target)
    #expect(target == ObjectID(3), "the id of the HWPT that was made")
    #expect(bench.domain(of: device) != nil)
    #expect(bench.file.destroy(ioas) == .resourceBusy)
    #expect(bench.file.destroy(3) == .resourceBusy)
    bound.detach()
    #expect(bench.domain(of: device) == nil)
    #expect(bench.file.destroy(3) == .noSuchFileOrDirectory, "it went with its last device")
    #expect(bench.file.destroy(ioas) == nil)
    bound.detach()
    bound.unbind()
  }

  @Test func sharedByDevices() throws {
    let bench = try Bench()
    defer { bench.file.close() }
    let devices = (0..<3).map { bench.device($0) }
    let bound = try devices.map { try bench.file.context.bind($0) }
    let ioas = ObjectID(try bench.file.makeIOAS())
    for device in bound {
      var target = ioas
      try device.attach(to: &target)
      #expect(target == ObjectID(5))
    }
    #expect(bench.driver.domainsMade == 1)
    bound[0].detach()
    bound[1].detach()
    #expect(bench.file.destroy(5) == .resourceBusy)
    bound[2].detach()
    #expect(bench.file.destroy(5) == .noSuchFileOrDirectory)
    bound.forEach { $0.unbind() }
  }

  /// A domain that refuses the device is passed over; another is made, and that one refuses, too.
  @Test func incompatibleDomain() throws {
    let bench = try Bench()
    defer { bench.file.close() }
    let (good, bad) = (bench.device(0), bench.device(1))
    let (first, second) = (
      try bench.file.context.bind(good), try bench.file.context.bind(bad)
    )
    let ioas = ObjectID(try bench.file.makeIOAS())
    var target = ioas
    try first.attach(to: &target)
    bench.driver.refuse(bad.requesterID)
    target = ioas
    #expect(throws: Errno.invalidArgument) { try second.attach(to: &target) }
    #expect(target == ioas)
    #expect(bench.driver.domainsMade == 2)
    #expect(try bench.file.makeIOAS() == 5, "the HWPT that failed left no id behind")
    first.detach()
    first.unbind()
    second.unbind()
  }

  @Test func failuresLeaveNothing() throws {
    let bench = try Bench()
    defer { bench.file.close() }
    let device = bench.device(0)
    let bound = try bench.file.context.bind(device)
    let ioas = ObjectID(try bench.file.makeIOAS())
    var target = ioas
    bench.driver.failDomains(with: .notSupported)
    #expect(throws: Errno.notSupported) { try bound.attach(to: &target) }
    bench.driver.failDomains(with: nil)
    bench.driver.failAttaches(with: .noMemory)
    #expect(throws: Errno.noMemory) { try bound.attach(to: &target) }
    bench.driver.failAttaches(with: nil)
    #expect(target == ioas)
    #expect(bench.file.destroy(ioas.rawValue) == nil, "nothing depends on it")
    bound.unbind()
  }

  @Test func targets() throws {
    let bench = try Bench()
    defer { bench.file.close() }
    let bound = try bench.file.context.bind(bench.device(0))
    for (id, error) in [
      (ObjectID(0), Errno.noSuchFileOrDirectory), (ObjectID(9), .noSuchFileOrDirectory),
      (bound.id, .invalidArgument),
    ] {
      var target = id
      #expect(throws: error) { try bound.attach(to: &target) }
      #expect(throws: error) { try bound.replace(with: &target) }
    }
    var target = ObjectID(try bench.file.makeIOAS())
    #expect(throws: Errno.invalidArgument) { try bound.replace(with: &target) }
    try bound.attach(to: &target)
    // Twice is EBUSY, to the HWPT and to the IOAS.
    #expect(throws: Errno.resourceBusy) { try bound.attach(to: &target) }
    target = ObjectID(2)
    #expect(throws: Errno.resourceBusy) { try bound.attach(to: &target) }
    bound.detach()
    bound.unbind()
  }

  /// The group moves with its first device, and later ones must follow.
  @Test func group() throws {
    let bench = try Bench()
    defer { bench.file.close() }
    let group = IOMMUGroup(id: 1)
    let devices = (0..<2).map { bench.device($0, in: group) }
    let bound = try devices.map { try bench.file.context.bind($0) }
    let (one, other) = (
      ObjectID(try bench.file.makeIOAS()), ObjectID(try bench.file.makeIOAS())
    )
    var target = one
    try bound[0].attach(to: &target)
    let hwpt = target
    #expect(bench.domain(of: devices[1]) === bench.domain(of: devices[0]))
    target = other
    #expect(throws: Errno.invalidArgument) { try bound[1].attach(to: &target) }
    target = one
    try bound[1].attach(to: &target)
    #expect(target == hwpt)
    bound[0].detach()
    #expect(bench.domain(of: devices[0]) != nil, "the group stays for the other device")
    bound[1].detach()
    #expect(bench.domain(of: devices[0]) == nil)
    bound.forEach { $0.unbind() }
  }

  @Test func replace() throws {
    let bench = try Bench()
    defer { bench.file.close() }
    let device = bench.device(0)
    let bound = try bench.file.context.bind(device)
    let (one, other) = (
      ObjectID(try bench.file.makeIOAS()), ObjectID(try bench.file.makeIOAS())
    )
    var target = one
    try bound.attach(to: &target)
    let (first, domain) = (target, bench.domain(of: device))
    target = one
    try bound.replace(with: &target)
    #expect(target == first, "the same HWPT: nothing to do")
    target = other
    try bound.replace(with: &target)
    #expect(target != first)
    #expect(bench.domain(of: device) !== domain)
    #expect(bench.file.destroy(first.rawValue) == .noSuchFileOrDirectory)
    #expect(bench.file.destroy(one.rawValue) == nil)
    bound.detach()
    #expect(bench.file.destroy(other.rawValue) == nil)
    bound.unbind()
  }

  /// Replace moves every device of the group; a failure moves none.
  @Test func replaceInGroup() throws {
    let bench = try Bench()
    defer { bench.file.close() }
    let group = IOMMUGroup(id: 1)
    let devices = (0..<2).map { bench.device($0, in: group) }
    let bound = try devices.map { try bench.file.context.bind($0) }
    let (one, other) = (
      ObjectID(try bench.file.makeIOAS()), ObjectID(try bench.file.makeIOAS())
    )
    for device in bound {
      var target = one
      try device.attach(to: &target)
    }
    let domain = bench.domain(of: devices[0])
    bench.driver.refuse(devices[1].requesterID)
    var target = other
    #expect(throws: Errno.invalidArgument) { try bound[0].replace(with: &target) }
    #expect(bench.domain(of: devices[0]) === domain)
    #expect(bench.file.destroy(other.rawValue) == nil)
    bound.forEach { $0.detach() }
    #expect(bench.file.destroy(one.rawValue) == nil)
    bound.forEach { $0.unbind() }
  }

  /// A PASID needs tables that allow it, on both sides.
  @Test func pasidNeedsPermission() throws {
    let bench = try Bench()
    defer { bench.file.close() }
    let bound = try bench.file.context.bind(bench.device(0, pasidWidth: 16))
    var target = ObjectID(try bench.file.makeIOAS())
    #expect(throws: Errno.invalidArgument) {
      try bound.attach(to: &target, pasid: PASID(rawValue: 4))
    }
    #expect(bench.file.destroy(target.rawValue) == nil)
    bound.unbind()
  }
}

/// What an attach means for the IOVA space.
@Suite struct ReservedRegionTests {
  private let window: ClosedRange<UInt64> = 0xfee0_0000...0xfeef_ffff

  private func bench() throws -> (Bench, PhysicalDevice) {
    let bench = try Bench(RecordingDriver(aperture: 0...(1 << 39 - 1)))
    let device = bench.device(0)
    bench.driver.setReservedRegions(
      [
        .init(range: window, kind: .msi), .init(range: 0...0xfff, kind: .directRelaxable),
      ], of: device.requesterID)
    return (bench, device)
  }

  private func ranges(_ bench: Bench, _ ioas: ObjectID) throws -> [ClosedRange<UInt64>] {
    let context = try bench.file.context
    return try context.lock.withLock { try context.ioas(ioas).pageTable.usableRanges }
  }

  @Test func windowAndAperture() throws {
    let (bench, device) = try bench()
    defer { bench.file.close() }
    let ioas = ObjectID(try bench.file.makeIOAS())
    let bound = try bench.file.context.bind(device)
    var target = ioas
    try bound.attach(to: &target)
    #expect(try ranges(bench, ioas) == [0...0xfedf_ffff, 0xfef0_0000...(1 << 39 - 1)])
    bound.detach()
    #expect(try ranges(bench, ioas) == [0...UInt64.max])
    bound.unbind()
  }

  /// Mapped or allowed: the attach fails and nothing has changed.
  @Test(arguments: [true, false]) func inUse(isMapped: Bool) throws {
    let (bench, device) = try bench()
    defer { bench.file.close() }
    let ioas = ObjectID(try bench.file.makeIOAS())
    if isMapped {
      var command = iommu_ioas_map(
        size: 40, flags: 7, ioas_id: ioas.rawValue, __reserved: 0, user_va: 0x1000_0000,
        length: 0x1000, iova: 0xfee0_0000)
      #expect(bench.file.call(.ioasMap, &command) == nil)
    } else {
      let array = TestMemory()
      array.store(iommu_iova_range(start: 0, last: 0xfee0_0000))
      var command = iommu_ioas_allow_iovas(
        size: 24, ioas_id: ioas.rawValue, num_iovas: 1, __reserved: 0,
        allowed_iovas: array.address)
      #expect(bench.file.call(.ioasAllowIOVAs, &command) == nil)
    }
    let bound = try bench.file.context.bind(device)
    var target = ioas
    #expect(throws: Errno.addressInUse) { try bound.attach(to: &target) }
    #expect(bench.domain(of: device) == nil)
    #expect(try ranges(bench, ioas) == [0...UInt64.max])
    #expect(bench.file.destroy(ioas.rawValue) == nil)
    bound.unbind()
  }

  /// The window moves with the device, to the new IOAS and back out of the old one.
  @Test func replace() throws {
    let (bench, device) = try bench()
    defer { bench.file.close() }
    let (one, other) = (
      ObjectID(try bench.file.makeIOAS()), ObjectID(try bench.file.makeIOAS())
    )
    let bound = try bench.file.context.bind(device)
    var target = one
    try bound.attach(to: &target)
    let attached = try ranges(bench, one)
    bench.driver.failAttaches(with: .noMemory)
    target = other
    #expect(throws: Errno.noMemory) { try bound.replace(with: &target) }
    #expect(try ranges(bench, one) == attached)
    #expect(try ranges(bench, other) == [0...UInt64.max])
    bench.driver.failAttaches(with: nil)
    try bound.replace(with: &target)
    #expect(try ranges(bench, one) == [0...UInt64.max])
    #expect(try ranges(bench, other) == attached)
    bound.detach()
    bound.unbind()
  }

  /// Page size and mappings of the domain decide what the container says and may change.
  @Test func container() throws {
    let bench = try Bench(RecordingDriver(enforcesCacheCoherency: false))
    defer { bench.file.close() }
    let ioas = ObjectID(try bench.file.makeIOAS())
    #expect(bench.file.vfioIOAS(.set, ioas.rawValue) == .success(ioas.rawValue))
    #expect(bench.file.call(.vfioCheckExtension, 4) == .success(1))
    let device = bench.device(0)
    let bound = try bench.file.context.bind(device)
    var target = ioas
    try bound.attach(to: &target)
    #expect(bench.file.call(.vfioCheckExtension, 4) == .success(0), "no-snoop stays possible")
    var info = vfio_iommu_type1_info()
    info.argsz = 24
    #expect(bench.file.call(.vfioIOMMUGetInfo, &info) == nil)
    #expect(info.flags == 3)
    #expect(info.iova_pgsizes == 0x4020_1000)
    #expect(info.cap_offset == 0)
    #expect(info.argsz == 24 + 16 + 16 + 16)
    let memory = TestMemory()
    memory.store(
      vfio_iommu_type1_dma_map(
        argsz: 32, flags: 3, vaddr: memory.address, iova: 0x10_0000, size: 4096))
    #expect(bench.file.call(.vfioIOMMUMapDMA, memory.address) == .success(0))
    #expect(bench.domain(of: device)?.mappedBytes == 4096)
    #expect(bench.file.call(.vfioSetIOMMU, 1) == .failure(.invalidArgument))
    bound.detach()
    #expect(bench.file.call(.vfioSetIOMMU, 1) == .success(0))
    bound.unbind()
  }
}

/// HWPTs that are named, with and without PASIDs.
@Suite struct NamedHWPTTests {
  private func hwpt(
    _ bench: Bench, for device: BoundDevice, on ioas: UInt32, _ flags: PagingDomainFlags = []
  ) throws -> ObjectID {
    let context = try bench.file.context
    return try context.lock.withLock {
      let hwpt = try PagingHWPT.make(
        for: device, on: try context.ioas(ObjectID(ioas)), flags: flags, attaching: false)
      hwpt.finalize(asAutomatic: false)
      return hwpt.id
    }
  }

  /// It stays when its last device goes, and an attach to its IOAS does not take it.
  @Test func belongsToTheClient() throws {
    let bench = try Bench()
    defer { bench.file.close() }
    let device = bench.device(0)
    let bound = try bench.file.context.bind(device)
    let ioas = try bench.file.makeIOAS()
    let named = try hwpt(bench, for: bound, on: ioas)
    #expect(bench.file.destroy(ioas) == .resourceBusy)
    var target = named
    try bound.attach(to: &target)
    #expect(target == named)
    #expect(bench.file.destroy(named.rawValue) == .resourceBusy)
    target = ObjectID(ioas)
    try bound.replace(with: &target)
    #expect(target != named)
    #expect(bench.file.destroy(named.rawValue) == nil)
    bound.detach()
    #expect(bench.file.destroy(ioas) == nil)
    bound.unbind()
  }

  @Test func pasids() throws {
    let bench = try Bench()
    defer { bench.file.close() }
    let device = bench.device(0, pasidWidth: 4)
    let bound = try bench.file.context.bind(device)
    let ioas = try bench.file.makeIOAS()
    let plain = try hwpt(bench, for: bound, on: ioas)
    let (one, other) = (
      try hwpt(bench, for: bound, on: ioas, .pasid), try hwpt(bench, for: bound, on: ioas, .pasid)
    )
    let (five, sixteen) = (PASID(rawValue: 5), PASID(rawValue: 16))

    // A PASID needs tables that allow it; the requester may have none.
    var target = plain
    #expect(throws: Errno.invalidArgument) { try bound.attach(to: &target, pasid: five) }
    target = one
    #expect(throws: Errno.invalidArgument) { try bound.attach(to: &target, pasid: sixteen) }
    try bound.attach(to: &target, pasid: five)
    #expect(bench.domain(of: device, five) != nil)
    #expect(bench.domain(of: device) == nil)
    #expect(throws: Errno.resourceBusy) { try bound.attach(to: &target, pasid: five) }

    // Beside a PASID the requester's tables must allow it, too.
    target = plain
    #expect(throws: Errno.invalidArgument) { try bound.attach(to: &target) }
    target = other
    try bound.attach(to: &target)
    target = plain
    #expect(throws: Errno.invalidArgument) { try bound.replace(with: &target) }

    target = other
    try bound.replace(with: &target, pasid: five)
    #expect(bench.domain(of: device, five) === bench.domain(of: device))
    #expect(bench.file.destroy(one.rawValue) == nil)
    #expect(bench.file.destroy(other.rawValue) == .resourceBusy)
    bound.detach(pasid: five)
    #expect(bench.domain(of: device, five) == nil)
    bound.detach(pasid: five)
    target = plain
    try bound.replace(with: &target)
    target = one
    #expect(throws: Errno.noSuchFileOrDirectory) { try bound.attach(to: &target, pasid: five) }
    target = other
    #expect(throws: Errno.invalidArgument, "the requester's tables do not allow PASIDs") {
      try bound.attach(to: &target, pasid: five)
    }
    bound.detach()
    bound.unbind()
  }

  /// Members without PASIDs are left alone, members with fewer refuse.
  @Test func pasidsOfAGroup() throws {
    let bench = try Bench()
    defer { bench.file.close() }
    let group = IOMMUGroup(id: 1)
    let devices = [0, 8, 4].enumerated().map { index, width in
      bench.device(UInt8(index), in: group, pasidWidth: width)
    }
    let bound = try bench.file.context.bind(devices[1])
    var target = try hwpt(bench, for: bound, on: try bench.file.makeIOAS(), .pasid)
    let (three, twenty) = (PASID(rawValue: 3), PASID(rawValue: 20))
    #expect(throws: Errno.invalidArgument) { try bound.attach(to: &target, pasid: twenty) }
    try bound.attach(to: &target, pasid: three)
    #expect(devices.map { bench.domain(of: $0, three) != nil } == [false, true, true])
    bound.detach(pasid: three)
    #expect(devices.allSatisfy { bench.domain(of: $0, three) == nil })
    bound.unbind()
  }

  /// What is mapped before is in the new domain, what comes later is in all of them.
  @Test func filledLikeItsIOAS() throws {
    let bench = try Bench()
    defer { bench.file.close() }
    let device = bench.device(0)
    let bound = try bench.file.context.bind(device)
    let ioas = try bench.file.makeIOAS()
    let memory = TestMemory(pages: 2)
    func map(_ iova: UInt64) -> Errno? {
      var command = iommu_ioas_map(
        size: 40, flags: 7, ioas_id: ioas, __reserved: 0, user_va: memory.address,
        length: 0x2000, iova: iova)
      return bench.file.call(.ioasMap, &command)
    }
    #expect(map(0x10_0000) == nil)
    #expect(bench.file.memory.pinnedFrames == 0)
    var target = try hwpt(bench, for: bound, on: ioas)
    #expect(bench.file.memory.pinnedFrames == 2)
    try bound.attach(to: &target)
    let domain = try #require(bench.domain(of: device))
    #expect(domain.mappedBytes == 0x2000)
    #expect(map(0x20_0000) == nil)
    #expect(domain.mappedBytes == 0x4000)
    #expect(bench.file.unmap(ioas, 0x10_0000, 0x2000) == .success(0x2000))
    #expect(domain.mappedBytes == 0x2000)
    bound.detach()
    #expect(bench.file.destroy(target.rawValue) == nil)
    #expect(domain.mappedBytes == 0)
    #expect(bench.file.memory.pinnedFrames == 0)
    bound.unbind()
  }
}
