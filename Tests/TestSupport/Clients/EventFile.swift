// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc

/// A client's eventfd.
package final class EventFile: Sendable {
  package let number: Int32
  package init() { number = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK)) }
  deinit { Glibc.close(number) }

  /// Returns the counter and sets it to 0.
  package func drain() -> UInt64 {
    var count: UInt64 = 0
    return Glibc.read(number, &count, 8) == 8 ? count : 0
  }

  /// Adds `count` to the counter.
  package func signal(_ count: UInt64 = 1) {
    var count = count
    _ = Glibc.write(number, &count, 8)
  }

  /// Waits for at most five seconds until the counter is not 0.
  package func wait() -> Bool {
    var poll = pollfd(fd: number, events: Int16(POLLIN), revents: 0)
    return Glibc.poll(&poll, 1, 5000) == 1
  }
}
