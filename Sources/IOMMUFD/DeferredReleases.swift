// SPDX-License-Identifier: Apache-2.0

// Contexts that a thread of this process destroys, because they have so many areas that a front end
// must not wait: other programs make calls meanwhile. In the kernel close(2) of the last descriptor
// waits instead. So that nobody notices the difference, a call that depends on what such a context
// still holds first waits until the contexts that were closed before the call are destroyed: a call
// that would fail for want of memory, and a call that shows counts of pinned pages.

internal import Host
internal import Synchronization

package final class DeferredReleases: @unchecked Sendable {
  package static let shared = DeferredReleases()

  private let lock = AssertableLock()
  /// The number of contexts that are not destroyed yet, for a look without the lock.
  private let pending = Atomic(0)

  // MARK: Guarded by `lock`

  private var queue: [Context] = []
  private var hasThread = false
  /// The numbers of contexts ever added and ever destroyed, in the same order.
  private var added = 0
  private var finished = 0

  /// Destroys a context whose last reference is gone.
  func add(_ context: Context) {
    let isAccepted = lock.withLock {
      if !hasThread { hasThread = startThread(named: "release") { [self] in destroyAll() } }
      guard hasThread else { return false }
      queue.append(context)
      added += 1
      pending.wrappingAdd(1, ordering: .sequentiallyConsistent)
      return true
    }
    if !isAccepted { context.destroyReleased() }
  }

  private func destroyAll() {
    while let context = next() {
      context.destroyReleased()
      lock.withLock {
        finished += 1
        pending.wrappingSubtract(1, ordering: .sequentiallyConsistent)
        lock.announceChange()
      }
    }
  }

  private func next() -> Context? {
    lock.withLock {
      if queue.isEmpty {
        hasThread = false
        return nil
      }
      return queue.removeFirst()
    }
  }

  /// Waits until every context that was closed before is destroyed. The caller holds no lock.
  /// - Returns: whether there was one.
  @discardableResult
  package func waitForEarlier() -> Bool {
    if pending.load(ordering: .sequentiallyConsistent) == 0 { return false }
    return lock.withLock {
      let last = added
      let hadSome = finished < last
      while finished < last { lock.waitForChange() }
      return hadSome
    }
  }
}
