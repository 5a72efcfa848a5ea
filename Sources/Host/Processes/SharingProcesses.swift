// SPDX-License-Identifier: Apache-2.0

// The processes that have one mm: a process and its children of clone(CLONE_VM). The last process
// whose call was served is the first of the list.
//
// The kernel reuses process IDs, and a process leaves the mm by exec. So a process counts only
// while its pidfd shows that it has not ended and it still has the random bytes of the exec.
// `AddressSpace` owns the list. The lock is a leaf.

internal import CLinux
internal import Glibc
internal import Synchronization

/// A process that has made calls, or whose child has.
struct ClientProcess: Sendable {
  let id: Int32
  let pidfd: OwnedDescriptor
  /// Taken while the process had the address space.
  let identity: ExecIdentity

  var hasEnded: Bool {
    var request = pollfd(fd: pidfd.rawValue, events: Int16(POLLIN), revents: 0)
    return poll(&request, 1, 0) != 0
  }

  /// Whether the process still has the address space that `identity` was taken of.
  var isCurrent: Bool { identity.matches(HostTask(id: id)) && !hasEnded }

  /// Whether the process and process `other` have the same mm. False when the process has ended.
  func sharesMemory(with other: Int32) -> Bool {
    // The process ID cannot belong to another process while the process has not ended.
    CLinux_kcmp_vm(id, other) == 0 && !hasEnded
  }
}

final class SharingProcesses: Sendable {
  private static let limit = 64

  private let processes: Mutex<[ClientProcess]>

  init(_ first: ClientProcess?) {
    processes = Mutex(first.map { [$0] } ?? [])
  }

  /// Adds a process. Beyond the limit, the process whose last call was the earliest is removed.
  func add(_ process: ClientProcess) {
    processes.withLock { processes in
      processes.removeAll { $0.id == process.id || $0.hasEnded }
      if processes.count == Self.limit { processes.removeLast() }
      processes.insert(process, at: 0)
    }
  }

  /// Makes process `id` the last one whose call was served.
  func markCaller(_ id: Int32) {
    processes.withLock { processes in
      guard processes.first?.id != id,
        let index = processes.firstIndex(where: { $0.id == id })
      else { return }
      processes.insert(processes.remove(at: index), at: 0)
    }
  }

  /// The ID of the last process whose call was served and that has not ended.
  var caller: Int32? {
    processes.withLock { processes in
      if processes.count > 1 {
        return (processes.first { !$0.hasEnded } ?? processes.first)?.id
      }
      return processes.first?.id
    }
  }

  /// Returns a process that still has the mm and is not `process`.
  func another(than process: Int32) -> ClientProcess? {
    // Not under the lock: a client can delay reads of its memory.
    processes.withLock { $0 }.first { $0.id != process && $0.isCurrent }
  }

  /// Whether all processes that have made calls have ended. False when there are none.
  var haveEnded: Bool {
    processes.withLock { !$0.isEmpty && $0.allSatisfy(\.hasEnded) }
  }

  /// Whether process `id` has the mm.
  func areSharing(with id: Int32) -> Bool {
    let processes = processes.withLock { $0 }
    if let known = processes.first(where: { $0.id == id }) { return known.isCurrent }
    return processes.contains { $0.sharesMemory(with: id) }
  }
}
