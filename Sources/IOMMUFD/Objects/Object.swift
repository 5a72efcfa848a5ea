// SPDX-License-Identifier: Apache-2.0

// What every object of an open /dev/iommu has (iommufd: struct iommufd_object).
//
// `users` is 1 for the object table plus 1 for every other object, VFIO device, access or open
// descriptor that depends on the object. Only an object with 1 user can be destroyed. The kernel's
// second counter, wait_cnt, keeps an object alive while an ioctl works on it; here the context's
// lock does, or, where an ioctl must drop the lock, a user more.

package import UAPI

package class Object: @unchecked Sendable {
  package let id: ObjectID
  /// A strong reference, because a bound device outlives the open file. The cycle with the
  /// context's object table ends when the last release of the context empties the table.
  package let context: Context
  /// Guarded by the context's lock.
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
    assert(users > 1, "the table's own reference ends with the object")
    users -= 1
  }

  /// Runs `body`, which may release the lock, as a user of the object.
  func withUser<Result, Failure: Error>(
    _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    addUser()
    defer { dropUser() }
    return try body()
  }

  /// Whether something depends on the object, so that IOMMU_DESTROY fails with EBUSY.
  var isInUse: Bool { users > 1 }

  /// Releases everything that the object depends on. Called once, with the context's lock held,
  /// after the object was removed from the table. Cannot fail.
  func destroy() {}
}
