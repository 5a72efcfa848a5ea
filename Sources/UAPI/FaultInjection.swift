// SPDX-License-Identifier: Apache-2.0

// Fault injection as the kernel's /proc/<pid>/fail-nth does it: the n-th injection point that a
// system call reaches fails, all others succeed. An injection point is an operation that can fail
// for want of a resource, as the kernel's failslab, fail_page_alloc and fail_iommufd make it fail:
// the allocation of an object ID, a record, a frame or a table, and a look-up. Code that undoes an
// operation has no injection points, because it cannot fail.
//
// A front end arms the counter of the client's thread (`counting(down:_:)`), and the object model
// calls `step(_:)` at each injection point. One thread of this server serves a call from its
// beginning to its end, so the counter is thread-local, and no function has a parameter for it.
// Other threads never see a failure. With no counter armed an injection point costs a load and a
// branch. Translations have no injection points.

internal import CLinux
package import SystemPackage

package enum FaultInjection {
  /// An injection point.
  /// - Throws: `error` when this is the n-th one.
  @inline(__always)
  package static func step(_ error: Errno = .noMemory) throws(Errno) {
    if shouldFail() { throw error }
  }

  /// An injection point in a function that does not throw (Linux: should_fail()).
  @inline(__always)
  package static func shouldFail() -> Bool { CLinux_should_fail() }

  /// Runs `body` with the `failNth`-th injection point failing; 0 stands for none.
  /// - Parameter failNth: set to what is left of the counter: 0 when an injection point has failed.
  package static func counting<Result, Failure: Error>(
    down failNth: inout UInt32, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let outer = CLinux_fail_nth()
    CLinux_set_fail_nth(failNth)
    defer {
      failNth = CLinux_fail_nth()
      CLinux_set_fail_nth(outer)
    }
    return try body()
  }
}
