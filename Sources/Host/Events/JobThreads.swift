// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Threads for jobs that may wait long, each of which has a thread of its own meanwhile. A few
/// threads are kept for the next job, because to start a thread takes longer than a short job.
package final class JobThreads: Sendable {
  package typealias JobBody = @Sendable () -> Void

  private let name: String
  private let idle = Mutex<[JobThread]>([])
  private static let idleLimit = 2

  /// - Parameter name: the name of the threads, see `startThread`.
  package init(named name: String) {
    self.name = name
  }

  /// Runs `job` on an idle or a new thread.
  /// - Returns: false when the host cannot create a thread.
  package func run(_ job: @escaping JobBody) -> Bool {
    if let thread = idle.withLock({ $0.popLast() }) {
      thread.start(job)
      return true
    }
    let thread = JobThread()
    thread.start(job)
    return startThread(named: name) { [self] in
      repeat { thread.runJob() } while keep(thread)
    }
  }

  /// Returns whether the thread is to wait for another job.
  private func keep(_ thread: JobThread) -> Bool {
    idle.withLock { idle in
      guard idle.count < Self.idleLimit else { return false }
      idle.append(thread)
      return true
    }
  }
}

/// One thread and its next job.
private final class JobThread: Sendable {
  private struct Next {
    var job: JobThreads.JobBody?
  }

  private let next = Mutex(Next())
  private let hasJob = ThreadSemaphore()

  func start(_ next: @escaping JobThreads.JobBody) {
    self.next.withLock { $0.job = next }
    hasJob.signal()
  }

  /// Waits for the next job and runs it.
  func runJob() {
    hasJob.wait()
    next.withLock { $0.job.take() }?()
  }
}
