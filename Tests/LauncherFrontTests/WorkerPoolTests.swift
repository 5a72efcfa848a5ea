// SPDX-License-Identifier: Apache-2.0

// The number of workers that wait: one, unless calls take long or arrive fast.

internal import Foundation
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
    var pending = 0
    var received = 0
    var isStopped = false
  }

  private let state = Mutex(State())
  let workers: WorkerPool
  /// Calls end only when this is true.
  let isReleased = Atomic(false)

  init(processors: Int = 2, limit: Int = 4) {
    workers = WorkerPool(limit: limit, processors: processors)
    _ = workers.start { [self] in startThread(named: "test") { self.work() } }
  }

  private func work() {
    repeat {
      state.withLock {
        $0.waiting += 1
        $0.mostWaiting = max($0.mostWaiting, $0.waiting)
      }
      var withoutWaiting = true
      while !tryReceive() {
        withoutWaiting = false
        if state.withLock({ $0.isStopped }) { return workers.stop() }
        usleep(100)
      }
      workers.didReceive(withoutWaiting: withoutWaiting)
      while !isReleased.load(ordering: .acquiring) { usleep(100) }
    } while workers.waitForTurn()
  }

  private func tryReceive() -> Bool {
    state.withLock { state in
      guard state.pending > 0 else { return false }
      state.pending -= 1
      state.received += 1
      state.waiting -= 1
      return true
    }
  }

  func arrive(_ count: Int) { state.withLock { $0.pending += count } }
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
    #expect(!WorkerPool(limit: 4).start { false })
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
}
