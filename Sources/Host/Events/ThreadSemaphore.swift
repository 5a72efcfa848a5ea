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

  package func wait() { while sem_wait(raw) != 0 && errno == EINTR {} }
}
