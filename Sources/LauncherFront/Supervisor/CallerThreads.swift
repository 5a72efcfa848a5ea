// SPDX-License-Identifier: Apache-2.0

// A cache of threads that make calls, so that most calls need not look up their caller in /proc.
//
// A thread ID does not identify a thread for long: by the time it is used, another thread may have
// it. A pidfd refers to one thread for ever, and operations through it fail once that thread has
// ended. So when an operation through a pidfd succeeds, its thread has had its ID since the pidfd
// was opened. If that was during an *earlier* call with the same thread ID, the thread is the one
// that waits for the answer to this call. That is why the result of such an operation needs no
// check whether the call still waits.
//
// A cached thread also has the address space that it had at its last call, with what identifies the
// exec: if the memory shows the same exec, the thread still has that address space.

internal import CLinux
internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage

/// A thread that has made a call before.
final class CallerThread: Sendable {
  private struct Memory {
    weak var space: AddressSpace?
    var identity: ExecIdentity?
    /// Whether the last call used the address space. The next call probably does as well.
    var wasUsed = false
  }

  let task: HostTask
  /// The ID of the call during which the pidfd was opened.
  fileprivate let call: UInt64
  fileprivate let pidfd: OwnedDescriptor
  private let memory = Mutex(Memory())

  fileprivate init(_ task: HostTask, pidfd: OwnedDescriptor, call: UInt64) {
    self.task = task
    self.pidfd = pidfd
    self.call = call
  }

  /// The identity of the file that descriptor `number` of the thread refers to.
  /// - Throws: `.badFileDescriptor`; `.noSuchProcess` when the thread has ended; another errno when
  ///   this process may not duplicate the descriptor.
  func identity(of number: Int32) throws(Errno) -> StandInIdentity {
    try StandInIdentity(of: number, in: pidfd)
  }

  fileprivate var hasEnded: Bool {
    var request = pollfd(fd: pidfd.rawValue, events: Int16(POLLIN), revents: 0)
    return poll(&request, 1, 0) != 0
  }

  // MARK: The address space

  /// The address space that the thread had at its last call, and what identifies its exec. `nil`
  /// when the last call did not use the address space.
  func expectedSpace() -> (space: AddressSpace, identity: ExecIdentity)? {
    memory.withLock { memory in
      defer { memory.wasUsed = false }
      guard memory.wasUsed, let space = memory.space, let identity = memory.identity else {
        return nil
      }
      return (space, identity)
    }
  }

  /// Records that the current call uses the thread's address space, `space`.
  /// - Parameter identity: returns what identifies the exec of `space`. Not called when `space` is
  ///   the address space that was recorded last.
  func recordUse(of space: AddressSpace, identity: () -> ExecIdentity?) {
    memory.withLock { memory in
      memory.wasUsed = true
      if memory.space === space { return }
      (memory.space, memory.identity) = (space, identity())
    }
  }
}

final class CallerThreads: Sendable {
  /// The number of cached threads. Each costs a descriptor.
  private static let limit = 64

  /// By thread ID.
  private let threads = Mutex<[Int32: CallerThread]>([:])
  /// Reports the pidfds of threads that end, by thread ID.
  private let exits: EpollSet

  init() throws(Errno) {
    exits = try EpollSet()
  }

  /// The thread that waits in `call`. `nil` when it was not added during an earlier call.
  func thread(of call: TrappedCall) -> CallerThread? {
    guard let thread = threads.withLock({ $0[call.task.id] }),
      // The kernel numbers calls consecutively from a random start.
      Int64(bitPattern: call.id &- thread.call) > 0
    else { return nil }
    return thread
  }

  /// Adds the thread that waits in `call`, for its next calls. Does nothing when the cache is full,
  /// or when the kernel has no pidfds of threads (before Linux 6.9).
  /// - Parameter isWaiting: returns whether the call still waits.
  func add(_ call: TrappedCall, isWaiting: () -> Bool) {
    guard threads.withLock({ $0.count < Self.limit }) else { return }
    let descriptor = CLinux_pidfd_open(call.task.id, true)
    guard descriptor >= 0 else { return }
    let pidfd = OwnedDescriptor(owning: descriptor)
    guard isWaiting() else { return }
    let thread = CallerThread(call.task, pidfd: pidfd, call: call.id)
    threads.withLock { threads in
      // EPOLLET reports the exit only once. A call in progress can keep the pidfd open long after
      // the thread has exited.
      let events = EPOLLIN.rawValue | EPOLLET.rawValue
      let task = call.task.id
      guard (try? exits.add(descriptor, events: events, tag: task)) != nil else { return }
      threads[task] = thread
    }
  }

  /// Removes a thread that has ended.
  func remove(_ thread: CallerThread) {
    threads.withLock { threads in
      if threads[thread.task.id] === thread { threads[thread.task.id] = nil }
    }
  }

  /// Removes threads when they end. Never returns. The last close of a pidfd removes it from
  /// `exits`.
  func removeEndedForever() {
    while true {
      guard let task = exits.wait() else { continue }
      let thread = threads.withLock { $0[task] }
      // Another thread may have the ID by now; `exits` reports the end of that thread separately.
      if let thread, thread.hasEnded { remove(thread) }
    }
  }
}
