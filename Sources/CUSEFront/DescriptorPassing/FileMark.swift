// How a file that was identified before is recognised with one system call.
//
// An epoll set does not hold the files that are in it: an entry goes with the last close of its file.
// kcmp(2) can ask whether a descriptor of another process is the file of an entry. So a set with one
// entry marks a file without keeping it open, and nobody else can make a mark or move one.

internal import CLinux
internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage

final class FileMark: Sendable {
  private let set: OwnedDescriptor
  /// What the entry's descriptor was when it was added, part of the entry's name.
  private let number: Int32

  /// Each mark takes a descriptor.
  private static let limit = 256
  private static let count = Atomic(0)

  /// An empty set: to be made in the table that later questions name, and ``mark(_:)``ed in an own one.
  /// - Returns: nil when there are `limit` already.
  static func emptySet() -> OwnedDescriptor? {
    guard count.load(ordering: .relaxed) < limit else { return nil }
    return try? EpollSet().descriptor
  }

  /// Marks the file of `descriptor`. The kernel looks for its readiness, which for a node of this server
  /// waits for it: only in an ``UnsharedTable``.
  /// - Parameter set: an ``emptySet()``, and in this thread's table a copy of it.
  init?(_ descriptor: Int32, in set: OwnedDescriptor, copy: OwnedDescriptor) {
    guard (try? EpollSet(copy).add(descriptor, events: 0, tag: 0)) != nil else { return nil }
    self.set = set
    number = descriptor
    Self.count.add(1, ordering: .relaxed)
  }

  deinit {
    Self.count.subtract(1, ordering: .relaxed)
  }

  /// Whether the task's descriptor `other` is the marked file; false also where that cannot be known.
  func isOn(_ other: Int32, of task: HostTask) -> Bool {
    CLinux_kcmp_epoll(task.id, other, getpid(), set.rawValue, number) == 0
  }
}
