// Threads that make one call after the other, so that not every call begins with finding out who calls.
//
// A thread's id says nothing by itself, for it may be another thread's by the time it is used. A pidfd
// is of one thread for ever, and what is asked through it fails once that thread has ended. So a thread
// that can be asked something through its pidfd has had its id since the pidfd was made; if that was
// during an *earlier* call, it is the thread that waits for our answer to this one. That is why what a
// pidfd has answered needs no further look whether the call still waits.
//
// Beside it is kept what to look at in the thread's memory to see that it is still in the address space
// that it was in last: exec changes that.

internal import CLinux
internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage

final class KnownThread: Sendable {
  private struct Memory {
    weak var space: AddressSpace?
    var stamp: ExecIdentity?
    /// The last call asked for the address space: so may the next.
    var wasNeeded = false
  }

  let task: HostTask
  /// Of the call during which the pidfd was made.
  fileprivate let call: UInt64
  fileprivate let pidfd: OwnedDescriptor
  private let memory = Mutex(Memory())

  fileprivate init(_ task: HostTask, pidfd: OwnedDescriptor, call: UInt64) {
    self.task = task
    self.pidfd = pidfd
    self.call = call
  }

  /// Which file a descriptor of the thread refers to.
  /// - Throws: `.badFileDescriptor`; `.noSuchProcess` when the thread has ended.
  func identity(of number: Int32) throws(Errno) -> StandInIdentity {
    try StandInIdentity(of: number, in: pidfd)
  }

  fileprivate var hasEnded: Bool {
    var request = pollfd(fd: pidfd.rawValue, events: Int16(POLLIN), revents: 0)
    return poll(&request, 1, 0) != 0
  }

  // MARK: Its address space

  /// The address space that the thread was in, and what is still there if it has not left it; nil when
  /// the thread's last call had no use for it.
  func expectedSpace() -> (space: AddressSpace, stamp: ExecIdentity)? {
    memory.withLock { memory in
      defer { memory.wasNeeded = false }
      guard memory.wasNeeded, let space = memory.space, let stamp = memory.stamp else { return nil }
      return (space, stamp)
    }
  }

  /// The call at hand needs the address space, which is `space`.
  /// - Parameter stamp: what is to be looked at in the next; asked for where it is not known yet.
  func note(_ space: AddressSpace, stamp: () -> ExecIdentity?) {
    memory.withLock { memory in
      memory.wasNeeded = true
      if memory.space === space { return }
      (memory.space, memory.stamp) = (space, stamp())
    }
  }
}

final class KnownThreads: Sendable {
  /// Each costs a descriptor.
  private static let limit = 64

  private let threads = Mutex<[Int32: KnownThread]>([:])
  private let ends: EpollSet

  init() throws(Errno) {
    ends = try EpollSet()
  }

  /// The thread that waits in `call`, if it is known since an earlier one.
  func thread(of call: TrappedCall) -> KnownThread? {
    guard let thread = threads.withLock({ $0[call.task.id] }),
      // Calls are numbered from a random start.
      Int64(bitPattern: call.id &- thread.call) > 0
    else { return nil }
    return thread
  }

  /// Knows the thread from its next call on. Without a kernel that has pidfds of threads (Linux 6.9)
  /// every call begins anew.
  /// - Parameter isWaiting: whether the call still waits.
  func learn(_ call: TrappedCall, isWaiting: () -> Bool) {
    guard threads.withLock({ $0.count < Self.limit }) else { return }
    let descriptor = CLinux_pidfd_open(call.task.id, true)
    guard descriptor >= 0 else { return }
    let pidfd = OwnedDescriptor(owning: descriptor)
    guard isWaiting() else { return }
    let thread = KnownThread(call.task, pidfd: pidfd, call: call.id)
    threads.withLock { threads in
      // Told once: a call that goes on may keep the pidfd open long after the thread's end.
      let events = EPOLLIN.rawValue | EPOLLET.rawValue
      let task = call.task.id
      guard (try? ends.add(descriptor, events: events, tag: task)) != nil else { return }
      threads[task] = thread
    }
  }

  /// `thread` could not be asked: it has ended.
  func forget(_ thread: KnownThread) {
    threads.withLock { threads in
      if threads[thread.task.id] === thread { threads[thread.task.id] = nil }
    }
  }

  /// The body of a thread that forgets the ones that end. A pidfd that is closed is watched no more.
  func watchForever() {
    while true {
      guard let task = ends.wait() else { continue }
      let thread = threads.withLock { $0[task] }
      // The id may be another thread's already, whose own end will be told.
      if let thread, thread.hasEnded { forget(thread) }
    }
  }
}
