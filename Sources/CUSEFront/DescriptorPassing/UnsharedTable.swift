// Threads with a table of descriptors of their own.
//
// Some system calls wait for this server itself: an open of one of our nodes, an ioctl on a copy of
// a client's descriptor of one, the last close of it. If the server is killed in that moment the
// waiting thread cannot end, and neither could the process: it still holds the connection whose end
// would wake the thread, and nothing but the kernel's `abort` file gets out of that. A thread that
// has left the shared table holds no connection, so the shared table, and with it the connections,
// goes whatever it waits for. Every such call is therefore made here.
//
// The threads are kept for the next call: to start one takes longer than all that is done in it.

internal import CLinux
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage

enum UnsharedTable {
  private static let threads = UnsharedTableThreads()

  /// Runs `body` on a thread that shares no descriptor above standard error with this process, and
  /// waits for it. What `body` opens must be closed in it.
  /// - Throws: `.resourceTemporarilyUnavailable` when no such thread can be had.
  static func run<Result: Sendable>(
    _ body: @escaping @Sendable () throws(Errno) -> Result
  ) throws(Errno) -> Result {
    let visit = ResultJob { (_) throws(Errno) -> Result in try body() }
    try threads.receive(visit)
    return try visit.result()
  }

  /// In `run`: a copy of what is `descriptor` in the shared table.
  static func copy(of descriptor: Int32) throws(Errno) -> OwnedDescriptor {
    try HostTask(id: getpid()).duplicateDescriptor(descriptor)
  }

  /// Closes a descriptor of this process so that only an own table waits for what that entails: a
  /// thread with such a table has a second reference while the shared table gives up the first.
  static func close(_ descriptor: Int32) {
    let isGivenUp = ThreadSemaphore()
    let visit = ResultJob { (hasArrived) throws(Errno) in
      let copy = try copy(of: descriptor)
      hasArrived.signal()
      isGivenUp.wait()
      withExtendedLifetime(copy) {}
    }
    do throws(Errno) {
      try threads.receive(visit)
    } catch {
      Glibc.close(descriptor)
      return
    }
    visit.awaitArrival()
    // Not the last reference any more, unless there was no way to have another.
    Glibc.close(descriptor)
    isGivenUp.signal()
    _ = try? visit.result()
  }

  /// Threads that wait for the next call, for tests.
  static var idleThreads: Int { threads.idleCount }
}

/// Threads in tables of their own.
private final class UnsharedTableThreads: Sendable {
  private let idle = Mutex<[UnsharedTableThread]>([])
  /// Calls that wait for this server are few at a time.
  private static let idleLimit = 2

  var idleCount: Int { idle.withLock { $0.count } }

  /// Lets a thread run `visitor`.
  func receive(_ visitor: Job) throws(Errno) {
    if let thread = idle.withLock({ $0.popLast() }) { return thread.receive(visitor) }
    let thread = UnsharedTableThread()
    thread.receive(visitor)
    guard startThread(named: "own table", { [self] in run(thread) }) else {
      throw .resourceTemporarilyUnavailable
    }
  }

  private func run(_ thread: UnsharedTableThread) {
    let hasOwnTable = CLinux_close_range_unshare(3) == 0
    var isKept = true
    while isKept {
      let end = runNext(on: thread, hasOwnTable: hasOwnTable)
      // Before the end is told: who hears of it may have the next visitor.
      isKept = hasOwnTable && keep(thread)
      end.tell()
    }
  }

  /// Once this has returned, the visitor is its caller's alone: what it holds is closed in the table
  /// that it is of, and not here.
  @inline(never)
  private func runNext(on thread: UnsharedTableThread, hasOwnTable: Bool) -> JobCompletion {
    let visitor = thread.nextVisitor()
    if hasOwnTable { visitor.visit() }
    return visitor.end
  }

  private func keep(_ thread: UnsharedTableThread) -> Bool {
    idle.withLock { idle in
      guard idle.count < Self.idleLimit else { return false }
      idle.append(thread)
      return true
    }
  }
}

/// One thread and whom it runs next.
private final class UnsharedTableThread: Sendable {
  private let visitor = Mutex<Job?>(nil)
  private let hasVisitor = ThreadSemaphore()

  func receive(_ next: Job) {
    visitor.withLock { $0 = next }
    hasVisitor.signal()
  }

  func nextVisitor() -> Job {
    while true {
      hasVisitor.wait()
      if let next = visitor.withLock({ $0.take() }) { return next }
    }
  }
}

/// What a thread does, whatever its result is.
private class Job: @unchecked Sendable {
  let end = JobCompletion()
  func visit() {}
}

/// What a caller waits for.
private final class JobCompletion: Sendable {
  let hasArrived = ThreadSemaphore()
  let hasLeft = ThreadSemaphore()

  func tell() {
    hasArrived.signal()
    hasLeft.signal()
  }
}

private final class ResultJob<Result: Sendable>: Job, @unchecked Sendable {
  typealias Body = @Sendable (_ hasArrived: ThreadSemaphore) throws(Errno) -> Result

  private let body: Body
  /// Written by the thread before it leaves; nil when it could not leave the shared table.
  private var outcome: Swift.Result<Result, Errno>?

  init(_ body: @escaping Body) {
    self.body = body
  }

  /// Waits until the body has said so, or has ended.
  func awaitArrival() { end.hasArrived.wait() }

  /// Waits for the end. To be called once.
  func result() throws(Errno) -> Result {
    end.hasLeft.wait()
    guard let outcome else { throw .resourceTemporarilyUnavailable }
    return try outcome.get()
  }

  override func visit() {
    do throws(Errno) {
      outcome = .success(try body(end.hasArrived))
    } catch {
      outcome = .failure(error)
    }
  }
}
