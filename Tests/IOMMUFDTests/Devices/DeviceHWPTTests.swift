// SPDX-License-Identifier: Apache-2.0

import CUAPI
import IOMMU
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

/// HWPTs that a client allocates, with and without PASIDs.
@Suite struct NamedHWPTTests {
  private func hwpt(
    _ fixture: DeviceFixture, for device: BoundDevice, on ioas: UInt32,
    _ flags: PagingDomainFlags = []
  ) throws -> ObjectID {
    let context = try fixture.file.context
    return try context.lock.withLock {
      let hwpt = try PagingHWPT.make(
        for: device, on: try context.ioas(ObjectID(ioas)), flags: flags, attaching: false)
      hwpt.finalize(asAutomatic: false)
      return hwpt.id
    }
  }

  @Test(
    "an allocated HWPT stays when its last device is detached, and an attach to the IOAS does not use it"
  )
  func belongsToTheClient() throws {
    let fixture = try DeviceFixture()
    defer { fixture.file.close() }
    let device = fixture.device(0)
    let bound = try fixture.file.context.bind(device)
    let ioas = try fixture.file.makeIOAS()
    let named = try hwpt(fixture, for: bound, on: ioas)
    #expect(fixture.file.destroy(ioas) == .resourceBusy)
    var target = named
    try bound.attach(to: &target)
    #expect(target == named)
    #expect(fixture.file.destroy(named.rawValue) == .resourceBusy)
    target = ObjectID(ioas)
    try bound.replace(with: &target)
    #expect(target != named)
    #expect(fixture.file.destroy(named.rawValue) == nil)
    bound.detach()
    #expect(fixture.file.destroy(ioas) == nil)
    bound.unbind()
  }

  @Test("attachments to a PASID and beside a PASID require HWPTs that allow PASIDs")
  func pasids() throws {
    let fixture = try DeviceFixture()
    defer { fixture.file.close() }
    let device = fixture.device(0, pasidWidth: 4)
    let bound = try fixture.file.context.bind(device)
    let ioas = try fixture.file.makeIOAS()
    let plain = try hwpt(fixture, for: bound, on: ioas)
    let (one, other) = (
      try hwpt(fixture, for: bound, on: ioas, .pasid),
      try hwpt(fixture, for: bound, on: ioas, .pasid)
    )
    let (five, sixteen) = (PASID(rawValue: 5), PASID(rawValue: 16))

    // An attach to a PASID requires an HWPT that allows PASIDs. The device itself need not be
    // attached.
    var target = plain
    #expect(throws: Errno.invalidArgument) { try bound.attach(to: &target, pasid: five) }
    target = one
    #expect(throws: Errno.invalidArgument) { try bound.attach(to: &target, pasid: sixteen) }
    try bound.attach(to: &target, pasid: five)
    #expect(fixture.domain(of: device, five) != nil)
    #expect(fixture.domain(of: device) == nil)
    #expect(throws: Errno.resourceBusy) { try bound.attach(to: &target, pasid: five) }

    // With an attached PASID the HWPT of the device must allow PASIDs too.
    target = plain
    #expect(throws: Errno.invalidArgument) { try bound.attach(to: &target) }
    target = other
    try bound.attach(to: &target)
    target = plain
    #expect(throws: Errno.invalidArgument) { try bound.replace(with: &target) }

    target = other
    try bound.replace(with: &target, pasid: five)
    #expect(fixture.domain(of: device, five) === fixture.domain(of: device))
    #expect(fixture.file.destroy(one.rawValue) == nil)
    #expect(fixture.file.destroy(other.rawValue) == .resourceBusy)
    bound.detach(pasid: five)
    #expect(fixture.domain(of: device, five) == nil)
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

  @Test(
    "a PASID is attached to the members of a group that have PASIDs, and a member with too few refuses"
  )
  func pasidsOfAGroup() throws {
    let fixture = try DeviceFixture()
    defer { fixture.file.close() }
    let group = IOMMUGroup(id: 1)
    let devices = [0, 8, 4].enumerated().map { index, width in
      fixture.device(UInt8(index), in: group, pasidWidth: width)
    }
    let bound = try fixture.file.context.bind(devices[1])
    var target = try hwpt(fixture, for: bound, on: try fixture.file.makeIOAS(), .pasid)
    let (three, twenty) = (PASID(rawValue: 3), PASID(rawValue: 20))
    #expect(throws: Errno.invalidArgument) { try bound.attach(to: &target, pasid: twenty) }
    try bound.attach(to: &target, pasid: three)
    #expect(devices.map { fixture.domain(of: $0, three) != nil } == [false, true, true])
    bound.detach(pasid: three)
    #expect(devices.allSatisfy { fixture.domain(of: $0, three) == nil })
    bound.unbind()
  }

  @Test("a new domain has the mappings of its IOAS, and later mappings go to all domains")
  func filledLikeItsIOAS() throws {
    let fixture = try DeviceFixture()
    defer { fixture.file.close() }
    let device = fixture.device(0)
    let bound = try fixture.file.context.bind(device)
    let ioas = try fixture.file.makeIOAS()
    let memory = TestMemory(pages: 2)
    func map(_ iova: UInt64) -> Errno? {
      var command = iommu_ioas_map(
        size: 40, flags: 7, ioas_id: ioas, __reserved: 0, user_va: memory.address,
        length: 0x2000, iova: iova)
      return fixture.file.call(.ioasMap, &command)
    }
    #expect(map(0x10_0000) == nil)
    #expect(fixture.file.memory.pinnedFrames == 0)
    var target = try hwpt(fixture, for: bound, on: ioas)
    #expect(fixture.file.memory.pinnedFrames == 2)
    try bound.attach(to: &target)
    let domain = try #require(fixture.domain(of: device))
    #expect(domain.mappedBytes == 0x2000)
    #expect(map(0x20_0000) == nil)
    #expect(domain.mappedBytes == 0x4000)
    #expect(fixture.file.unmap(ioas, 0x10_0000, 0x2000) == .success(0x2000))
    #expect(domain.mappedBytes == 0x2000)
    bound.detach()
    #expect(fixture.file.destroy(target.rawValue) == nil)
    #expect(domain.mappedBytes == 0)
    #expect(fixture.file.memory.pinnedFrames == 0)
    bound.unbind()
  }
}
