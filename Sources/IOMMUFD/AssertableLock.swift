// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization

/// A mutex that the state it guards lies outside of, and whose holder can be asserted. Functions
/// that need the lock call ``assertHeld(_:)``, which is lockdep_assert_held(): a debug build
/// checks, a release build does nothing.
///
/// `Mutex` is the choice for state that one type owns and that fits into a struct. This lock is for
/// an object graph: every object of a ``Context`` is guarded by the context's lock. Its holder can
/// release it for a while (``withoutLock(_:)``), which a `Mutex` does not permit.
///
/// A thread that releases the lock hands it to the thread that waits longest, if one does
/// (PTHREAD_PRIO_INHERIT: futex_unlock_pi()). A long operation that releases the lock now and then
/// therefore lets others proceed.
package final class AssertableLock: @unchecked Sendable {
  // SAFETY: the pointers are allocated for the whole life of the object; pthread functions may be
  // called on them by any thread.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let change = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  #if DEBUG
    /// The thread that holds the lock, 0 while it is free.
    private let holder = Atomic<UInt>(0)
  #endif

  package init() {
    var attributes = pthread_mutexattr_t()
    pthread_mutexattr_init(&attributes)
    pthread_mutexattr_setprotocol(&attributes, Int32(PTHREAD_PRIO_INHERIT))
    pthread_mutex_init(mutex, &attributes)
    pthread_mutexattr_destroy(&attributes)
    pthread_cond_init(change, nil)
  }

  deinit {
    pthread_cond_destroy(change)
    pthread_mutex_destroy(mutex)
    change.deallocate()
    mutex.deallocate()
  }

  package func withLock<Result, Failure: Error>(
    _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    lock()
    defer { unlock() }
    return try body()
  }

  /// Runs `body` without the lock, which the calling thread holds, and takes the lock again. Others
  /// may change everything that the lock guards meanwhile.
  package func withoutLock<Result, Failure: Error>(
    _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    assertHeld()
    unlock()
    defer { lock() }
    return try body()
  }

  /// Lets other threads take the lock, which the calling thread holds.
  package func yield() { withoutLock {} }

  /// Releases the lock until another thread calls ``announceChange()``. May also return earlier.
  package func waitForChange() {
    assertHeld()
    setHolder(0)
    pthread_cond_wait(change, mutex)
    setHolder(pthread_self())
  }

  /// Ends every ``waitForChange()``.
  package func announceChange() { pthread_cond_broadcast(change) }

  private func lock() {
    let failure = pthread_mutex_lock(mutex)
    precondition(failure == 0, "a thread takes a lock that it holds")
    setHolder(pthread_self())
  }

  private func unlock() {
    setHolder(0)
    pthread_mutex_unlock(mutex)
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
