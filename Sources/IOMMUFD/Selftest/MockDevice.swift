// SPDX-License-Identifier: Apache-2.0

internal import IOMMU
internal import SystemPackage
internal import UAPI

/// A mock device (selftest.c: struct selftest_obj). One operation of the selftest interface plugs
/// it in, binds and attaches it; IOMMU_DESTROY undoes all of that.
final class MockDevice: Object, @unchecked Sendable {
  let bound: BoundDevice
  private let selftest: Selftest

  init(id: ObjectID, bound: BoundDevice, selftest: Selftest) {
    self.bound = bound
    self.selftest = selftest
    super.init(id: id, in: bound.context)
  }

  /// Also detaches PASIDs. The kernel leaves them attached, warns and leaks memory.
  /// selftest.c: iommufd_selftest_destroy()
  override func destroy() {
    context.lock.assertHeld()
    bound.detachAll()
    bound.endBinding()
    selftest.driver.unplug(bound.device.requesterID)
  }
}
