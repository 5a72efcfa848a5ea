// SPDX-License-Identifier: Apache-2.0

internal import CLinux
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

  package func wait() { while sem_wait(raw) != 0 && errno == EINTR {} }

  /// Decrements the counter without waiting.
  /// - Returns: false when the counter is 0.
  package func tryWait() -> Bool { sem_trywait(raw) == 0 }

  /// Waits at most `seconds`.
  /// - Returns: false when the counter stayed 0.
  package func wait(seconds: Int) -> Bool { wait(milliseconds: seconds * 1000) }

  /// Waits at most `milliseconds`.
  /// - Returns: false when the counter stayed 0.
  package func wait(milliseconds: Int) -> Bool {
    let end = MonotonicTime.now + milliseconds
    return CLinux_semaphore_wait(raw, Int64(end)) == 0
  }
}
