// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// A counting semaphore between threads (sem_overview(7)), initially 0.
package final class ThreadSemaphore: @unchecked Sendable {
  private let raw: UnsafeMutablePointer<sem_t>

  package init() {
    raw = .allocate(capacity: 1)
    sem_init(raw, 0, 0)
  }

  deinit {
    sem_destroy(raw)
    raw.deallocate()
  }

  package func signal() { sem_post(raw) }

  /// - Returns: false when `milliseconds` have passed.
  package func wait(milliseconds: Int) -> Bool {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    time.tv_nsec += milliseconds % 1_000 * 1_000_000
    time.tv_sec += milliseconds / 1_000 + time.tv_nsec / 1_000_000_000
    time.tv_nsec %= 1_000_000_000
    while sem_timedwait(raw, &time) != 0 {
      if errno != EINTR { return false }
    }
    return true
  }

  package func wait() { while sem_wait(raw) != 0 && errno == EINTR {} }
}
