// Failures on demand, as the kernel's fail-nth has them: the n-th *step* of a call fails, every other
// one goes its way. A step is whatever can fail for want of something: an id, a record, a frame, a
// table, a look-up. Undoing has no steps, and nothing of it may fail.
//
// The number belongs to the client's thread; a front end hands it to the thread of ours that serves a
// call and takes back what is left. Since a call is served from its beginning to its end on one
// thread, a thread-local number is all the context that is needed: no parameter runs through the
// object model, and threads that serve others, or nobody, see nothing of it. Off, a step is a
// load and a branch; translations have none.

internal import CLinux
package import SystemPackage

package enum FaultInjection {
  /// A step that can fail, with the errno of its failure.
  @inline(__always)
  package static func step(_ error: Errno = .noMemory) throws(Errno) {
    if fires() { throw error }
  }

  /// The same, where failing is not throwing.
  @inline(__always)
  package static func fires() -> Bool { CLinux_fault_step() }

  /// Runs `body` with the `countdown`-th step of it failing; 0: none.
  /// - Parameter countdown: becomes what is left: 0 when a step was made to fail.
  package static func counting<Result, Failure: Error>(
    down countdown: inout UInt32, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let outer = CLinux_fault_countdown()
    CLinux_set_fault_countdown(countdown)
    defer {
      countdown = CLinux_fault_countdown()
      CLinux_set_fault_countdown(outer)
    }
    return try body()
  }
}
