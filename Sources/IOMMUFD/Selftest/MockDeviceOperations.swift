// SPDX-License-Identifier: Apache-2.0

// Operations of the selftest interface on mock devices. They do what VFIO does with a real device.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

enum MockDeviceOperations {
  // MARK: MOCK_DOMAIN, MOCK_DOMAIN_FLAGS

  /// The bound device is published before it is attached, the mock device at the end.
  /// selftest.c: iommufd_test_mock_domain()
  static func makeDevice(
    _ command: inout TestCommand, _ selftest: Selftest, flags: MockDriver.DeviceFlags
  ) throws(Errno) {
    let (context, client) = (command.context, command.client)
    let id = try context.lock.withLock { () throws(Errno) in try context.objects.reserve() }
    let device: MockDevice
    do throws(Errno) {
      let physical = try selftest.plug(flags)
      do throws(Errno) {
        device = MockDevice(
          id: id, bound: try context.bind(physical, holdsContext: false), selftest: selftest)
      } catch {
        selftest.driver.unplug(physical.requesterID)
        throw error
      }
    } catch {
      context.lock.withLock { context.objects.abort(id) }
      throw error
    }
    var target = ObjectID(command.arguments.id)
    do throws(Errno) {
      try device.bound.attach(to: &target, client: client)
    } catch {
      context.lock.withLock {
        device.destroy()
        context.objects.abort(id)
      }
      throw error
    }
    // Both operations have these three members first.
    command.arguments.mock_domain_flags.out_stdev_id = id.rawValue
    command.arguments.mock_domain_flags.out_hwpt_id = target.rawValue
    command.arguments.mock_domain_flags.out_idev_id = device.bound.id.rawValue
    try command.respond(publishing: device)
  }

  // MARK: Without PASID

  /// Stays in effect when the answer cannot be stored.
  /// selftest.c: iommufd_test_mock_domain_replace()
  static func replace(_ command: inout TestCommand) throws(Errno) {
    var target = ObjectID(command.arguments.mock_domain_replace.pt_id)
    try withDevice(of: command) { device throws(Errno) in
      try device.replace(with: &target, client: command.client)
    }
    command.arguments.mock_domain_replace.pt_id = target.rawValue
    try command.respond()
  }

  // MARK: With PASID; 0 stands for no PASID

  /// selftest.c: iommufd_test_pasid_attach()
  static func attachPASID(_ command: inout TestCommand) throws(Errno) {
    let pasid = PASID(orNone: command.arguments.pasid_attach.pasid)
    var answer = command
    try withDevice(of: command) { device throws(Errno) in
      var target = ObjectID(answer.arguments.pasid_attach.pt_id)
      try device.attach(to: &target, pasid: pasid, client: answer.client)
      answer.arguments.pasid_attach.pt_id = target.rawValue
      do throws(Errno) {
        try answer.respond()
      } catch {
        device.detach(pasid: pasid)
        throw error
      }
    }
  }

  /// selftest.c: iommufd_test_pasid_replace()
  static func replacePASID(_ command: inout TestCommand) throws(Errno) {
    let pasid = PASID(orNone: command.arguments.pasid_replace.pasid)
    var target = ObjectID(command.arguments.pasid_replace.pt_id)
    try withDevice(of: command) { device throws(Errno) in
      try device.replace(with: &target, pasid: pasid, client: command.client)
    }
    command.arguments.pasid_replace.pt_id = target.rawValue
    try command.respond()
  }

  /// selftest.c: iommufd_test_pasid_detach()
  static func detachPASID(_ command: inout TestCommand) throws(Errno) {
    let pasid = PASID(orNone: command.arguments.pasid_detach.pasid)
    try withDevice(of: command) { device in device.detach(pasid: pasid) }
  }

  /// selftest.c: iommufd_test_pasid_check_hwpt()
  static func checkPASID(_ command: inout TestCommand) throws(Errno) {
    let arguments = command.arguments
    let context = command.context
    try context.lock.withLock { () throws(Errno) in
      let device = try context.objects.lookUp(ObjectID(arguments.id), as: MockDevice.self)
      let pasid = PASID(orNone: arguments.pasid_check.pasid)
      let attached = device.bound.group.attachments[pasid]?.hwpt
      var expected: HWPT?
      if arguments.pasid_check.hwpt_id != 0 {
        expected = try context.objects.lookUp(ObjectID(arguments.pasid_check.hwpt_id)) as? HWPT
        guard expected != nil else { throw Errno.invalidArgument }
      }
      guard attached === expected else { throw Errno.invalidArgument }
    }
  }

  /// Calls `body` with the bound device of the operation, whose mock device cannot be destroyed
  /// meanwhile. The lock is not held.
  private static func withDevice(
    of command: TestCommand, _ body: (BoundDevice) throws(Errno) -> Void
  ) throws(Errno) {
    let context = command.context
    let device = try context.lock.withLock { () throws(Errno) in
      let device = try context.objects.lookUp(ObjectID(command.arguments.id), as: MockDevice.self)
      device.addUser()
      return device
    }
    defer { context.lock.withLock { device.dropUser() } }
    try body(device.bound)
  }
}

extension PASID {
  /// - Parameter rawValue: 0 stands for no PASID.
  init?(orNone rawValue: UInt32) {
    guard rawValue != 0 else { return nil }
    self.init(rawValue: rawValue)
  }
}
