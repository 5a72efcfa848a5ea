// SPDX-License-Identifier: Apache-2.0

// The number of workers that wait: one, unless calls take long or arrive fast.

internal import Foundation
internal import FrontEnd
internal import Host
internal import Synchronization
internal import TestSupport
internal import Testing

@testable import LauncherFront

/// Calls that arrive when the test says so, and the workers that answer them.
private final class Calls: Sendable {
  private struct State {
    var waiting = 0
    var mostWaiting = 0
    /// The clients of the calls that nobody has received.
    var pending: [Int32] = []
    var answered: [Int32] = []
    var received = 0
    var isStopped = false
  }

  private let state = Mutex(State())
  let workers: WorkerPool<Int32>
  /// Calls end only when this is true.
  let isReleased = Atomic(false)

  /// - Parameter unsharedCalls: see `WorkerPool`.
  init(processors: Int = 2, limit: Int = 4, unsharedCalls: Int = 100) {
    workers = WorkerPool(limit: limit, processors: processors, unsharedCalls: unsharedCalls)
    _ = workers.start { [self] in startThread(named: "test") { self.work() } }
  }

  private func work() {
    var step = WorkerPool<Int32>.Step.receive
    while true {
      switch step {
      case .receive: step = receive()
      case .answer(let process, let running):
        state.withLock { $0.answered.append(process) }
        while !isReleased.load(ordering: .acquiring) { usleep(100) }
        step = workers.finish(running)
      case .end: return
      }
    }
  }

  private func receive() -> WorkerPool<Int32>.Step {
    state.withLock {
      $0.waiting += 1
      $0.mostWaiting = max($0.mostWaiting, $0.waiting)
    }
    var withoutWaiting = true
    while true {
      if let process = tryReceive() {
        return workers.begin(process, withoutWaiting: withoutWaiting) {
          ClientIdentity(user: 0, process: process)
        }
      }
      withoutWaiting = false
      if state.withLock({ $0.isStopped }) { return workers.stop() }
      usleep(100)
    }
  }

  private func tryReceive() -> Int32? {
    state.withLock { state in
      guard !state.pending.isEmpty else { return nil }
      state.received += 1
      state.waiting -= 1
      return state.pending.removeFirst()
    }
  }

  /// - Parameter process: the client of the calls.
  func arrive(_ count: Int, of process: Int32 = 1) {
    state.withLock { $0.pending += Array(repeating: process, count: count) }
  }
  /// The clients of the calls whose answer has begun.
  var answered: [Int32] { state.withLock { $0.answered } }
  func stop() { state.withLock { $0.isStopped = true } }
  var received: Int { state.withLock { $0.received } }
  var waiting: Int { state.withLock { $0.waiting } }
  var mostWaiting: Int { state.withLock { $0.mostWaiting } }
}

@Suite struct WorkerPoolTests {
  @Test func oneWorkerWaitsWhileCallsAreShort() {
    let calls = Calls()
    calls.isReleased.store(true, ordering: .releasing)
    for number in 1...20 {
      #expect(eventually { calls.waiting > 0 })
      calls.arrive(1)
      #expect(eventually { calls.received == number })
    }
    #expect(eventually { calls.waiting == 1 })
    calls.stop()
  }

  @Test func aPoolWithoutAFirstWorkerDoesNotStart() {
    #expect(!WorkerPool<Int32>(limit: 4).start { false })
  }

  @Test func furtherCallsAreReceivedWhileCallsTakeLongUpToTheLimit() {
    let calls = Calls(limit: 4)
    for number in 1...4 {
      calls.arrive(1)
      #expect(eventually { calls.received == number })
    }
    calls.arrive(1)
    usleep(20_000)
    #expect(calls.received == 4 && calls.workers.total == 4)
    calls.isReleased.store(true, ordering: .releasing)
    #expect(eventually { calls.received == 5 })
    // The last call was pending when a worker asked for one, so a second worker may wait.
    #expect(eventually { (1...2).contains(calls.waiting) })
    calls.stop()
  }

  @Test func moreWorkersWaitWhenCallsArriveFastUpToTheNumberOfProcessors() {
    let calls = Calls(processors: 2, limit: 8)
    calls.isReleased.store(true, ordering: .releasing)
    calls.arrive(5000)
    #expect(eventually { calls.received == 5000 })
    #expect(calls.workers.total >= 2 && calls.mostWaiting <= 3)
    calls.stop()
  }

  @Test func callsBeyondAProcesssShareOccupyNoWorker() {
    let calls = Calls(limit: 64, unsharedCalls: 0)
    calls.arrive(40, of: 1)
    #expect(eventually { calls.received == 40 })
    let share = calls.answered.count
    #expect(share == 7)  // 7 is no longer less than an eighth of 64 - 7
    calls.arrive(1, of: 2)
    #expect(eventually { calls.answered.last == 2 })
    #expect(calls.answered.count == share + 1)
    calls.isReleased.store(true, ordering: .releasing)
    #expect(eventually { calls.answered.count == 41 })
    calls.stop()
  }

  @Test func anotherProcesssCallIsReceivedAtOnceWhileCallsTakeLong() {
    let calls = Calls(limit: 64, unsharedCalls: 0)
    calls.arrive(1, of: 1)
    #expect(eventually { calls.answered.count == 1 })
    usleep(20_000)
    // A worker waits beside each that receives a call, so the check once a millisecond, which adds
    // one worker, is not what makes this fast.
    calls.arrive(6, of: 1)
    calls.arrive(1, of: 2)
    #expect(eventually { calls.answered.contains(2) })
    calls.isReleased.store(true, ordering: .releasing)
    calls.stop()
  }
}
