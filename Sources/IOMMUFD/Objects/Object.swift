// What every object of an open /dev/iommu has (iommufd: struct iommufd_object).
//
// `users` counts who depends on the object: 1 for the table, 1 for every other object or VFIO device
// that needs it. Only an object with one user can be destroyed. The kernel's second count, wait_cnt,
// keeps an object alive while an ioctl runs on it; here the control lock does.

package import UAPI

package class Object: @unchecked Sendable {
  package let id: ObjectID
  /// Strong, as a bound device outlives the open file; the last release of the context empties its
  /// table and so ends the cycle.
  package let context: Context
  /// Guarded by the control lock.
  private(set) var users = 1

  init(id: ObjectID, in context: Context) {
    self.id = id
    self.context = context
  }

  func addUser() {
    context.lock.assertHeld()
    users += 1
  }

  func dropUser() {
    context.lock.assertHeld()
    assert(users > 1, "the table's own reference goes with the object")
    users -= 1
  }

  /// Somebody depends on the object: DESTROY is EBUSY.
  var isInUse: Bool { users > 1 }

  /// Gives back everything the object depends on. Called once, after its id is gone; cannot fail.
  func destroy() {}
}
