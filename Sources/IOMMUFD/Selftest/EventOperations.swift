// SPDX-License-Identifier: Apache-2.0

// Operations of the selftest interface that make mock devices report a page request or an event.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

enum EventOperations {
  /// TRIGGER_IOPF. selftest.c: iommufd_test_trigger_iopf()
  static func requestPage(_ command: inout TestCommand, _ selftest: Selftest) throws(Errno) {
    let fault = command.arguments.trigger_iopf
    let device = try mockDevice(ObjectID(fault.dev_id), of: command, selftest)
    selftest.driver.unit.requestPage(
      PageRequest(
        requester: device.requesterID, pasid: PASID(orNone: fault.pasid), group: fault.grpid,
        address: IOVA(fault.addr), access: PageRequestAccess(rawValue: fault.perm), isLast: true))
  }

  /// TRIGGER_VEVENT. selftest.c: iommufd_test_trigger_vevent()
  static func reportEvent(_ command: inout TestCommand, _ selftest: Selftest) throws(Errno) {
    let id = ObjectID(command.arguments.trigger_vevent.dev_id)
    let device = try mockDevice(id, of: command, selftest)
    try selftest.driver.triggerEvent(of: device.requesterID)
  }

  private static func mockDevice(
    _ id: ObjectID, of command: TestCommand, _ selftest: Selftest
  ) throws(Errno) -> PhysicalDevice {
    let context = command.context
    let device = try context.lock.withLock { () throws(Errno) in
      try context.objects.lookUp(id, as: BoundDevice.self).device
    }
    guard device.driver === selftest.driver else { throw .invalidArgument }
    return device
  }
}
