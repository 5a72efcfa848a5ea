// Who waits for calls: one, unless calls take long or come too fast.

internal import Foundation
internal import Host
internal import Synchronization
internal import Testing

@testable import LauncherFront

/// Workers that take calls when the test says so.
private final class Calls: Sendable {
  private struct State {
    var waiting = 0
    var mostWaiting = 0
    var pending = 0
    var taken = 0
    var isOver = false
  }

  private let state = Mutex(State())
  let crew: WorkerPool
  /// No call ends before this is set.
  let isReleased = Atomic(false)

  /// - Parameter refusals: how often there is no thread to be had at first.
  init(processors: Int = 2, limit: Int = 4, refusals: Int = 0) {
    crew = WorkerPool(limit: limit, processors: processors)
    let left = Mutex(refusals)
    crew.start { [self] in
      let isRefused = left.withLock { count in
        count -= 1
        return count >= 0
      }
      return !isRefused && startThread(named: "test") { self.work() }
    }
  }

  private func work() {
    repeat {
      state.withLock {
        $0.waiting += 1
        $0.mostWaiting = max($0.mostWaiting, $0.waiting)
      }
      var atOnce = true
      while !tryTake() {
        atOnce = false
        if state.withLock({ $0.isOver }) { return crew.end() }
        usleep(100)
      }
      crew.take(atOnce: atOnce)
      while !isReleased.load(ordering: .acquiring) { usleep(100) }
    } while crew.wait()
  }

  private func tryTake() -> Bool {
    state.withLock { state in
      guard state.pending > 0 else { return false }
      state.pending -= 1
      state.taken += 1
      state.waiting -= 1
      return true
    }
  }

  func come(_ count: Int) { state.withLock { $0.pending += count } }
  func over() { state.withLock { $0.isOver = true } }
  var taken: Int { state.withLock { $0.taken } }
  var waiting: Int { state.withLock { $0.waiting } }
  var mostWaiting: Int { state.withLock { $0.mostWaiting } }
}

private func eventually(_ condition: () -> Bool) -> Bool {
  for _ in 0..<20_000 {
    if condition() { return true }
    usleep(500)
  }
  return false
}

@Suite struct WorkerPoolTests {
  @Test func oneWaits() {
    let calls = Calls()
    calls.isReleased.store(true, ordering: .releasing)
    for number in 1...20 {
      #expect(eventually { calls.waiting > 0 })
      calls.come(1)
      #expect(eventually { calls.taken == number })
    }
    #expect(eventually { calls.waiting == 1 })
    calls.over()
  }

  /// A system that has no thread for the first worker is asked again.
  @Test func theFirstWorkerIsTriedAgain() {
    let calls = Calls(refusals: 3)
    calls.isReleased.store(true, ordering: .releasing)
    calls.come(1)
    #expect(eventually { calls.taken == 1 })
    calls.over()
  }

  /// However many calls do not come to an end, the next is taken, up to the limit.
  @Test func othersTakeOverWhenCallsTakeTheirTime() {
    let calls = Calls(limit: 4)
    for number in 1...4 {
      calls.come(1)
      #expect(eventually { calls.taken == number })
    }
    calls.come(1)
    usleep(20_000)
    #expect(calls.taken == 4 && calls.crew.total == 4)
    calls.isReleased.store(true, ordering: .releasing)
    #expect(eventually { calls.taken == 5 })
    // The last call had come before anybody could take it, so that a second one may wait.
    #expect(eventually { (1...2).contains(calls.waiting) })
    calls.over()
  }

  /// Calls that are there already have more workers wait, but not more than there are processors.
  @Test func moreWaitWhenCallsComeFast() {
    let calls = Calls(processors: 2, limit: 8)
    calls.isReleased.store(true, ordering: .releasing)
    calls.come(5000)
    #expect(eventually { calls.taken == 5000 })
    #expect(calls.crew.total >= 2 && calls.mostWaiting <= 3)
    calls.over()
  }
}
