// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage

/// Runs system calls on threads that have a file descriptor table of their own.
///
/// Some system calls wait for this server itself: an open of one of its nodes, an ioctl on a copy
/// of a client's descriptor of one, the last close of such a copy. If the server is killed in that
/// moment, the waiting thread cannot end, and the process cannot end either: it still holds the
/// connection whose end would wake the thread, and only the kernel's `abort` file ends this. A
/// thread that has left the shared table holds no connection. The shared table, and with it the
/// connections, then goes whatever the thread waits for. Every such call is therefore made here.
///
/// The threads are kept for the next call, because to start a thread takes longer than all that it
/// does.
enum UnsharedTable {
  private static let threads = UnsharedTableThreads()

  /// Runs `body` on a thread that shares no descriptor above standard error with this process, and
  /// waits until it has ended. What `body` opens must be closed in it.
  /// - Throws: `.resourceTemporarilyUnavailable` when there is no such thread, and what `body`
  ///   throws.
  static func run<Result: Sendable>(
    _ body: @escaping @Sendable () throws(Errno) -> Result
  ) throws(Errno) -> Result {
    let job = ResultJob { (_) throws(Errno) -> Result in try body() }
    try threads.start(job)
    return try job.result()
  }

  /// Returns a copy of the descriptor `descriptor` of the shared table. To be called in the body of
  /// ``run(_:)``.
  static func copy(of descriptor: Int32) throws(Errno) -> OwnedDescriptor {
    try HostTask(id: getpid()).duplicateDescriptor(descriptor)
  }

  /// Closes a descriptor of the shared table, so that only a thread with an unshared table waits
  /// for the last close: that thread holds a second reference while the first is closed in the
  /// shared table.
  static func close(_ descriptor: Int32) {
    let isClosed = ThreadSemaphore()
    let job = ResultJob { (hasCopy) throws(Errno) in
      let copy = try copy(of: descriptor)
      hasCopy.signal()
      isClosed.wait()
      withExtendedLifetime(copy) {}
    }
    do throws(Errno) {
      try threads.start(job)
    } catch {
      Glibc.close(descriptor)
      return
    }
    job.awaitCheckpoint()
    // This is not the last reference, unless the copy could not be made.
    Glibc.close(descriptor)
    isClosed.signal()
    _ = try? job.result()
  }

  /// The number of threads that wait for the next job, for tests.
  static var idleThreads: Int { threads.idleCount }
}

/// The threads that have unshared tables.
private final class UnsharedTableThreads: Sendable {
  private let idle = Mutex<[UnsharedTableThread]>([])
  /// Few calls at a time wait for this server.
  private static let idleLimit = 2

  var idleCount: Int { idle.withLock { $0.count } }

  /// Makes an idle or a new thread run `job`.
  /// - Throws: `.resourceTemporarilyUnavailable` when no thread can be started.
  func start(_ job: Job) throws(Errno) {
    if let thread = idle.withLock({ $0.popLast() }) { return thread.start(job) }
    let thread = UnsharedTableThread()
    thread.start(job)
    guard startThread(named: "unshared-fds", { [self] in runJobs(of: thread) }) else {
      throw .resourceTemporarilyUnavailable
    }
  }

  private func runJobs(of thread: UnsharedTableThread) {
    let isUnshared = CLinux_close_range_unshare(3) == 0
    var isKept = true
    while isKept {
      let events = runNextJob(of: thread, isUnshared: isUnshared)
      // Before the end of the job is signalled: the thread that waits for it may have the next job.
      isKept = isUnshared && keep(thread)
      events.signalEnd()
    }
  }

  /// Runs one job, when the thread has an unshared table. When this function has returned, only the
  /// caller of the job holds a reference to the job: descriptors that the job owns are of the
  /// caller's table, and must be closed there and not here.
  @inline(never)
  private func runNextJob(of thread: UnsharedTableThread, isUnshared: Bool) -> JobEvents {
    let job = thread.nextJob()
    if isUnshared { job.run() }
    return job.events
  }

  /// Returns whether the thread is to wait for another job.
  private func keep(_ thread: UnsharedTableThread) -> Bool {
    idle.withLock { idle in
      guard idle.count < Self.idleLimit else { return false }
      idle.append(thread)
      return true
    }
  }
}

/// One thread and its next job.
private final class UnsharedTableThread: Sendable {
  private let job = Mutex<Job?>(nil)
  private let hasJob = ThreadSemaphore()

  func start(_ next: Job) {
    job.withLock { $0 = next }
    hasJob.signal()
  }

  /// Waits for the next job.
  func nextJob() -> Job {
    while true {
      hasJob.wait()
      if let next = job.withLock({ $0.take() }) { return next }
    }
  }
}

/// A function that one of the threads runs.
private class Job: @unchecked Sendable {
  let events = JobEvents()
  func run() {}
}

/// The events of a job that its caller waits for.
private final class JobEvents: Sendable {
  /// The job has reached the point that its caller waits for, or has ended.
  let checkpoint = ThreadSemaphore()
  let end = ThreadSemaphore()

  func signalEnd() {
    checkpoint.signal()
    end.signal()
  }
}

/// A job with a result for its caller.
private final class ResultJob<Result: Sendable>: Job, @unchecked Sendable {
  typealias Body = @Sendable (_ checkpoint: ThreadSemaphore) throws(Errno) -> Result

  private let body: Body
  /// Written by the thread before it signals the end. `nil` when the thread could not leave the
  /// shared table.
  private var outcome: Swift.Result<Result, Errno>?

  /// - Parameter body: signals the semaphore at the point that ``awaitCheckpoint()`` waits for.
  init(_ body: @escaping Body) {
    self.body = body
  }

  /// Waits until the body has signalled its checkpoint or has ended.
  func awaitCheckpoint() { events.checkpoint.wait() }

  /// Waits until the job has ended. To be called once.
  func result() throws(Errno) -> Result {
    events.end.wait()
    guard let outcome else { throw .resourceTemporarilyUnavailable }
    return try outcome.get()
  }

  override func run() {
    do throws(Errno) {
      outcome = .success(try body(events.checkpoint))
    } catch {
      outcome = .failure(error)
    }
  }
}
