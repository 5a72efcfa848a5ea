// SPDX-License-Identifier: Apache-2.0

// Bound devices and their attachments.

import IOMMU
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

@Suite struct BindTests {
  @Test("a device can be bound once, and again after it is unbound")
  func bindAndUnbind() throws {
    let fixture = try DeviceFixture()
    let context = try fixture.file.context
    let bound = try context.bind(fixture.device(0))
    #expect(bound.id == ObjectID(1))
    #expect(fixture.file.destroy(1) == .resourceBusy)
    bound.unbind()
    #expect(fixture.file.destroy(1) == .noSuchFileOrDirectory)
    #expect(try fixture.file.makeIOAS() == 1)
    fixture.file.close()
  }

  @Test("a group has one owner (EPERM for others) until its last device is unbound")
  func ownership() throws {
    let fixture = try DeviceFixture()
    let other = try ControlFile()
    let group = IOMMUGroup(id: 7)
    let (first, second) = (fixture.device(0, in: group), fixture.device(1, in: group))
    let bound = try fixture.file.context.bind(first)
    #expect(try fixture.file.context.hasGroup(group))
    #expect(try !other.context.hasGroup(group))
    #expect(throws: Errno.notPermitted) { try other.context.bind(second) }
    #expect(try other.makeIOAS() == 1, "the failed bind left no id behind")
    let sibling = try fixture.file.context.bind(second)
    bound.unbind()
    #expect(throws: Errno.notPermitted) { try other.context.bind(first) }
    sibling.unbind()
    try other.context.bind(first).unbind()
    fixture.file.close()
    other.close()
  }

  @Test("a bound device keeps the context after the file is closed")
  func outlivesItsFile() throws {
    let fixture = try DeviceFixture()
    let device = fixture.device(0)
    let bound = try fixture.file.context.bind(device)
    var target = try fixture.makeIOAS()
    try bound.attach(to: &target)
    fixture.file.close()
    #expect(fixture.domain(of: device) != nil)
    bound.detach()
    #expect(fixture.domain(of: device) == nil)
    bound.unbind()
    #expect(
      try DeviceFixture().file.context.bind(device).id == ObjectID(1), "the group is free again")
  }
}

@Suite struct AttachTests {
  @Test("an attach to an IOAS makes an HWPT that is destroyed with its last device")
  func automaticHWPT() throws {
    let fixture = try DeviceFixture()
    defer { fixture.file.close() }
    let device = fixture.device(0)
    let ioas = try fixture.file.makeIOAS()
    let bound = try fixture.file.context.bind(device)
    var target = ObjectID(ioas)
    try bound.attach(to: &target)
    #expect(target == ObjectID(3), "the id of the HWPT that was made")
    #expect(fixture.domain(of: device) != nil)
    #expect(fixture.file.destroy(ioas) == .resourceBusy)
    #expect(fixture.file.destroy(3) == .resourceBusy)
    bound.detach()
    #expect(fixture.domain(of: device) == nil)
    #expect(
      fixture.file.destroy(3) == .noSuchFileOrDirectory,
      "the HWPT is destroyed with its last device")
    #expect(fixture.file.destroy(ioas) == nil)
    bound.detach()
    bound.unbind()
  }

  @Test("devices of one IOAS share its automatic HWPT")
  func sharedByDevices() throws {
    let fixture = try DeviceFixture()
    defer { fixture.file.close() }
    let devices = (0..<3).map { fixture.device($0) }
    let bound = try devices.map { try fixture.file.context.bind($0) }
    let ioas = try fixture.makeIOAS()
    for device in bound {
      var target = ioas
      try device.attach(to: &target)
      #expect(target == ObjectID(5))
    }
    #expect(fixture.driver.domainsMade == 1)
    bound[0].detach()
    bound[1].detach()
    #expect(fixture.file.destroy(5) == .resourceBusy)
    bound[2].detach()
    #expect(fixture.file.destroy(5) == .noSuchFileOrDirectory)
    bound.forEach { $0.unbind() }
  }

  @Test(
    "an attach makes a new HWPT when the device refuses the existing one, and leaves no ID when that HWPT fails too"
  )
  func incompatibleDomain() throws {
    let fixture = try DeviceFixture()
    defer { fixture.file.close() }
    let (good, bad) = (fixture.device(0), fixture.device(1))
    let (first, second) = (
      try fixture.file.context.bind(good), try fixture.file.context.bind(bad)
    )
    let ioas = try fixture.makeIOAS()
    var target = ioas
    try first.attach(to: &target)
    fixture.driver.refuse(bad.requesterID)
    target = ioas
    #expect(throws: Errno.invalidArgument) { try second.attach(to: &target) }
    #expect(target == ioas)
    #expect(fixture.driver.domainsMade == 2)
    #expect(try fixture.file.makeIOAS() == 5, "the HWPT that failed left no id behind")
    first.detach()
    first.unbind()
    second.unbind()
  }

  @Test("an attach that fails leaves no object and no dependency")
  func failuresLeaveNothing() throws {
    let fixture = try DeviceFixture()
    defer { fixture.file.close() }
    let device = fixture.device(0)
    let bound = try fixture.file.context.bind(device)
    let ioas = try fixture.makeIOAS()
    var target = ioas
    fixture.driver.failDomains(with: .notSupported)
    #expect(throws: Errno.notSupported) { try bound.attach(to: &target) }
    fixture.driver.failDomains(with: nil)
    fixture.driver.failAttaches(with: .noMemory)
    #expect(throws: Errno.noMemory) { try bound.attach(to: &target) }
    fixture.driver.failAttaches(with: nil)
    #expect(target == ioas)
    #expect(fixture.file.destroy(ioas.rawValue) == nil, "nothing depends on it")
    bound.unbind()
  }

  @Test("an attach requires an IOAS or an HWPT, and an attached device is EBUSY")
  func targets() throws {
    let fixture = try DeviceFixture()
    defer { fixture.file.close() }
    let bound = try fixture.file.context.bind(fixture.device(0))
    for (id, error) in [
      (ObjectID(0), Errno.noSuchFileOrDirectory), (ObjectID(9), .noSuchFileOrDirectory),
      (bound.id, .invalidArgument),
    ] {
      var target = id
      #expect(throws: error) { try bound.attach(to: &target) }
      #expect(throws: error) { try bound.replace(with: &target) }
    }
    var target = try fixture.makeIOAS()
    #expect(throws: Errno.invalidArgument) { try bound.replace(with: &target) }
    try bound.attach(to: &target)
    // A second attach is EBUSY, to the HWPT and to the IOAS.
    #expect(throws: Errno.resourceBusy) { try bound.attach(to: &target) }
    target = ObjectID(2)
    #expect(throws: Errno.resourceBusy) { try bound.attach(to: &target) }
    bound.detach()
    bound.unbind()
  }

  @Test("the first device of a group attaches the group, and the others must use the same HWPT")
  func group() throws {
    let fixture = try DeviceFixture()
    defer { fixture.file.close() }
    let (devices, bound) = try fixture.boundPair()
    let (one, other) = (try fixture.makeIOAS(), try fixture.makeIOAS())
    var target = one
    try bound[0].attach(to: &target)
    let hwpt = target
    #expect(fixture.domain(of: devices[1]) === fixture.domain(of: devices[0]))
    target = other
    #expect(throws: Errno.invalidArgument) { try bound[1].attach(to: &target) }
    target = one
    try bound[1].attach(to: &target)
    #expect(target == hwpt)
    bound[0].detach()
    #expect(fixture.domain(of: devices[0]) != nil, "the group stays for the other device")
    bound[1].detach()
    #expect(fixture.domain(of: devices[0]) == nil)
    bound.forEach { $0.unbind() }
  }

  @Test(
    "a replacement by the same HWPT changes nothing, and one by another HWPT destroys the automatic HWPT"
  )
  func replace() throws {
    let fixture = try DeviceFixture()
    defer { fixture.file.close() }
    let device = fixture.device(0)
    let bound = try fixture.file.context.bind(device)
    let (one, other) = (try fixture.makeIOAS(), try fixture.makeIOAS())
    var target = one
    try bound.attach(to: &target)
    let (first, domain) = (target, fixture.domain(of: device))
    target = one
    try bound.replace(with: &target)
    #expect(target == first, "the same HWPT: nothing to do")
    target = other
    try bound.replace(with: &target)
    #expect(target != first)
    #expect(fixture.domain(of: device) !== domain)
    #expect(fixture.file.destroy(first.rawValue) == .noSuchFileOrDirectory)
    #expect(fixture.file.destroy(one.rawValue) == nil)
    bound.detach()
    #expect(fixture.file.destroy(other.rawValue) == nil)
    bound.unbind()
  }

  @Test("a replacement moves every device of the group, and a failure moves none")
  func replaceInGroup() throws {
    let fixture = try DeviceFixture()
    defer { fixture.file.close() }
    let (devices, bound) = try fixture.boundPair()
    let (one, other) = (try fixture.makeIOAS(), try fixture.makeIOAS())
    for device in bound {
      var target = one
      try device.attach(to: &target)
    }
    let domain = fixture.domain(of: devices[0])
    fixture.driver.refuse(devices[1].requesterID)
    var target = other
    #expect(throws: Errno.invalidArgument) { try bound[0].replace(with: &target) }
    #expect(fixture.domain(of: devices[0]) === domain)
    #expect(fixture.file.destroy(other.rawValue) == nil)
    bound.forEach { $0.detach() }
    #expect(fixture.file.destroy(one.rawValue) == nil)
    bound.forEach { $0.unbind() }
  }

  @Test(
    "an attach of a PASID to an IOAS is EINVAL, because the automatic HWPT does not allow PASIDs")
  func pasidNeedsPermission() throws {
    let fixture = try DeviceFixture()
    defer { fixture.file.close() }
    let bound = try fixture.file.context.bind(fixture.device(0, pasidWidth: 16))
    var target = try fixture.makeIOAS()
    #expect(throws: Errno.invalidArgument) {
      try bound.attach(to: &target, pasid: PASID(rawValue: 4))
    }
    #expect(fixture.file.destroy(target.rawValue) == nil)
    bound.unbind()
  }
}
