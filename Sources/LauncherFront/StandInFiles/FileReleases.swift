// SPDX-License-Identifier: Apache-2.0

// Releases the files that programs have closed.
//
// In the kernel, close(2) returns after the release. Here a program continues at once, so a call
// waits for the releases of the files that were closed before it. But a release may take long: it
// may destroy a million areas, or wait for a DMA whose page a client does not provide. Only the
// process that opened the file waits for such a release to the end. All other calls wait a bounded
// time, and not at all for a process whose release they have waited for in vain.
//
// The files of one process are released one after the other, on one thread.

internal import DequeModule
internal import Glibc
internal import Host
internal import Synchronization

final class FileReleases: Sendable {
  typealias ReleaseBody = @Sendable () -> Void

  private struct WaitingRelease {
    let run: ReleaseBody
  }

  /// The releases of one process that have not ended.
  private struct Process {
    var releases = Deque<WaitingRelease>()
    /// Whether a call of another process has waited in vain.
    var isSlow = false
    /// The calls that wait until there is no release left.
    var waiters: [ThreadSemaphore] = []
  }

  private let processes = Mutex<[Int32: Process]>([:])
  /// Whether `processes` has elements.
  private let isBusy = Atomic(false)
  private let threads = JobThreads(named: "release")

  /// The longest time in milliseconds that a call waits for releases of other processes.
  private static let patience = 40

  /// Adds a release of `process`.
  /// - Returns: whether the caller must call ``run(of:)`` or ``runElsewhere(of:)``.
  func add(_ release: @escaping ReleaseBody, of process: Int32) -> Bool {
    processes.withLock { processes in
      isBusy.store(true, ordering: .releasing)
      let isFirst = processes[process] == nil
      processes[process, default: Process()].releases.append(WaitingRelease(run: release))
      return isFirst
    }
  }

  /// Runs all releases of `process` on another thread.
  func runElsewhere(of process: Int32) {
    if !threads.run({ [self] in run(of: process) }) { run(of: process) }
  }

  /// Runs all releases of `process`.
  func run(of process: Int32) {
    while let release = next(of: process) { release.run() }
  }

  private func next(of process: Int32) -> WaitingRelease? {
    processes.withLock { processes in
      if let release = processes[process]?.releases.popFirst() { return release }
      let ended = processes.removeValue(forKey: process)
      if processes.isEmpty { isBusy.store(false, ordering: .releasing) }
      for waiter in ended?.waiters ?? [] { waiter.signal() }
      return nil
    }
  }

  /// Waits for the releases that have been added: for those of `process` to their end, for others a
  /// bounded time.
  /// - Parameter process: returns the process of the call that waits. Called when there is
  ///   something to wait for.
  func wait(for process: () -> Int32?) {
    guard isBusy.load(ordering: .acquiring) else { return }
    let process = process()
    let ended = ThreadSemaphore()
    let awaited = processes.withLock { processes -> [Int32] in
      let awaited = processes.filter { !$0.value.isSlow || $0.key == process }.map(\.key)
      for id in awaited { processes[id]?.waiters.append(ended) }
      return awaited
    }
    let others = awaited.filter { $0 != process }.count
    var left = awaited.count
    let end = MonotonicTime.now + Self.patience
    while left > 0, others > 0 {
      guard ended.wait(milliseconds: max(0, end - MonotonicTime.now)) else {
        left -= markSlow(awaited, awaitedBy: ended, except: process)
        break
      }
      left -= 1
    }
    for _ in 0..<left { ended.wait() }
  }

  /// Waits at most 5 s for all releases.
  func waitForAll() {
    for _ in 0..<5_000 where isBusy.load(ordering: .acquiring) { usleep(1000) }
  }

  /// Marks the processes of `awaited` whose releases have not ended.
  /// - Returns: their number.
  private func markSlow(
    _ awaited: [Int32], awaitedBy waiter: ThreadSemaphore, except process: Int32?
  ) -> Int {
    processes.withLock { processes in
      var marked = 0
      for id in awaited where id != process {
        // Without the waiter, the releases that were awaited have ended.
        guard let index = processes[id]?.waiters.firstIndex(where: { $0 === waiter }) else {
          continue
        }
        processes[id]?.isSlow = true
        processes[id]?.waiters.remove(at: index)
        marked += 1
      }
      return marked
    }
  }
}
