// A mock device as an object (struct selftest_obj): plugged in, bound and attached by one operation;
// DESTROY undoes all of it.

internal import IOMMU
internal import SystemPackage
internal import UAPI

final class MockDevice: Object, @unchecked Sendable {
  let bound: BoundDevice
  private let selftest: Selftest

  init(id: ObjectID, bound: BoundDevice, selftest: Selftest) {
    self.bound = bound
    self.selftest = selftest
    super.init(id: id, in: bound.context)
  }

  /// selftest.c: iommufd_selftest_destroy(). The kernel leaves PASIDs attached, with a warning and a leak.
  override func destroy() {
    context.lock.assertHeld()
    bound.detachEverything()
    bound.endBinding()
    selftest.driver.unplug(bound.device.requesterID)
  }
}
