// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage

/// A mark on one open file, by which one system call recognises the file behind any descriptor.
///
/// The mark is an epoll set with one entry. An epoll set does not keep its files open: an entry
/// goes with the last close of its file. kcmp(2) compares a descriptor of another process with the
/// file of an entry. No other process can make a mark or move one to another file.
final class EpollMark: Sendable {
  private let set: EpollSet
  /// The number of the descriptor when it was added, which is a part of the entry's key.
  private let number: Int32

  /// Each mark takes a descriptor.
  private static let limit = 256
  private static let count = Atomic(0)

  /// Makes an empty set. It must be made in the descriptor table that ``matches(_:of:)`` is called
  /// in, and filled in an ``UnsharedTable``.
  /// - Returns: `nil` when there are `limit` marks already.
  static func emptySet() -> EpollSet? {
    guard count.load(ordering: .relaxed) < limit else { return nil }
    return try? EpollSet()
  }

  /// Marks the file of `descriptor`. To be called in an ``UnsharedTable``: the kernel asks for the
  /// readiness of the file, which for a file on a node of this server is a message to this server.
  /// - Parameters:
  ///   - set: an ``emptySet()``.
  ///   - copy: a copy of `set` in this thread's descriptor table.
  init?(_ descriptor: Int32, in set: EpollSet, copy: EpollSet) {
    guard (try? copy.add(descriptor, events: 0, tag: 0)) != nil else { return nil }
    self.set = set
    number = descriptor
    Self.count.add(1, ordering: .relaxed)
  }

  deinit {
    Self.count.subtract(1, ordering: .relaxed)
  }

  /// Whether the task's descriptor `other` is the marked file. False also when kcmp(2) fails.
  func matches(_ other: Int32, of task: HostTask) -> Bool {
    CLinux_kcmp_epoll(task.id, other, getpid(), set.descriptor.rawValue, number) == 0
  }
}
