// The lock of the control plane: one per open /dev/iommu.
//
// Every object of a `Context` is guarded by the context's `ControlLock`; the classes are therefore
// `@unchecked Sendable`, and code that touches their state says so with `assertHeld()`, which a debug
// build verifies. It is held for the work of a command, not while waiting for the client's memory
// unless the kernel's order leaves no choice. Order: control lock, then the leaf locks of what
// contexts share (IOMMU groups, units, physical memory). The data plane never takes it.

internal import Glibc
internal import Synchronization

package final class ControlLock: Sendable {
  private let mutex = Mutex<Void>(())
  #if DEBUG
    /// The thread that holds the lock, 0 when nobody does.
    private let holder = Atomic<UInt>(0)
  #endif

  package init() {}

  package func withLock<Result, Failure: Error>(
    _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var result: Swift.Result<Result, Failure>?
    mutex.withLock { _ in
      noteHolder(pthread_self())
      do throws(Failure) {
        result = .success(try body())
      } catch {
        result = .failure(error)
      }
      noteHolder(0)
    }
    guard let result else { preconditionFailure("withLock() runs its body") }
    return try result.get()
  }

  /// The comment "called with the control lock held", executable.
  @inline(__always)
  package func assertHeld(_ function: StaticString = #function) {
    #if DEBUG
      precondition(
        holder.load(ordering: .relaxed) == pthread_self(), "\(function) needs the control lock")
    #endif
  }

  @inline(__always)
  private func noteHolder(_ thread: UInt) {
    #if DEBUG
      holder.store(thread, ordering: .relaxed)
    #endif
  }
}
