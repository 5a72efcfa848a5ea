// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization

/// A mutex that the state it guards lies outside of, and whose holder can be asserted. Functions
/// that need the lock call ``assertHeld(_:)``, which is lockdep_assert_held(): a debug build
/// checks, a release build does nothing.
///
/// `Mutex` is the choice for state that one type owns and that fits into a struct. This lock is for
/// an object graph: every object of a ``Context`` is guarded by the context's lock.
package final class AssertableLock: Sendable {
  private let mutex = Mutex<Void>(())
  #if DEBUG
    /// The thread that holds the lock, 0 while it is free.
    private let holder = Atomic<UInt>(0)
  #endif

  package init() {}

  package func withLock<Result, Failure: Error>(
    _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var result: Swift.Result<Result, Failure>?
    mutex.withLock { _ in
      setHolder(pthread_self())
      do throws(Failure) {
        result = .success(try body())
      } catch {
        result = .failure(error)
      }
      setHolder(0)
    }
    guard let result else { preconditionFailure("withLock() runs its body") }
    return try result.get()
  }

  /// Traps in a debug build unless the calling thread holds the lock.
  @inline(__always)
  package func assertHeld(_ function: StaticString = #function) {
    #if DEBUG
      precondition(
        holder.load(ordering: .relaxed) == pthread_self(), "\(function) needs the lock")
    #endif
  }

  @inline(__always)
  private func setHolder(_ thread: UInt) {
    #if DEBUG
      holder.store(thread, ordering: .relaxed)
    #endif
  }
}
