// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
package import Host
package import SystemPackage

/// An epoll(7) instance that reports one event at a time, each as the tag of its descriptor.
package struct EpollSet: Sendable {
  package let descriptor: OwnedDescriptor

  /// Makes an empty instance, close-on-exec.
  package init() throws(Errno) {
    let result = epoll_create1(Int32(EPOLL_CLOEXEC))
    descriptor = try OwnedDescriptor(checking: result < 0 ? -errno : result)
  }

  /// Uses `descriptor`, which refers to an existing instance.
  package init(_ descriptor: OwnedDescriptor) {
    self.descriptor = descriptor
  }

  /// Adds the descriptor `number` for `events` (EPOLL…), to be reported as `tag`.
  package func add(_ number: Int32, events: UInt32, tag: Int32) throws(Errno) {
    var event = epoll_event(events: events, data: epoll_data_t(fd: tag))
    guard epoll_ctl(descriptor.rawValue, EPOLL_CTL_ADD, number, &event) == 0 else {
      throw Errno(rawValue: errno)
    }
  }

  package func remove(_ number: Int32) {
    epoll_ctl(descriptor.rawValue, EPOLL_CTL_DEL, number, nil)
  }

  /// Waits for one event.
  /// - Parameter timeout: milliseconds; -1 waits without limit.
  /// - Returns: the tag; `nil` after the timeout, and when a signal interrupts the wait.
  package func wait(timeout: Int32 = -1) -> Int32? {
    var event = epoll_event()
    return epoll_wait(descriptor.rawValue, &event, 1, timeout) > 0 ? event.data.fd : nil
  }
}
