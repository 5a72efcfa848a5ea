// SPDX-License-Identifier: Apache-2.0

// Decides how many worker threads wait for the next call.
//
// When a call arrives, the kernel wakes all threads that wait for one, and one of them gets the
// call (seccomp: recv_wait_event()). If several threads wait, the needless wake-ups take longer
// than a short call. So normally one worker waits, receives a call, answers it and waits again, and
// the other workers are parked. A further worker must wait when
//
//   - the worker that waited takes long to answer its call. A monitor thread checks every
//     millisecond whether no worker waits and no call was received. The monitor sleeps while there
//     are no calls.
//   - calls arrive faster than one worker answers them. A worker that receives a call without
//     having waited makes one more worker wait, up to the number of processors. After a millisecond
//     without such a call the number decreases again.
//
// A worker counts as waiting from the moment in which it is unparked, so that no second worker is
// unparked for the same reason.

internal import Glibc
internal import Host
internal import Synchronization

final class WorkerPool: Sendable {
  private struct State {
    /// Workers that wait for a call, or will after they were unparked or started.
    var waiting = 0
    /// The number of workers that should wait.
    var wanted = 1
    /// Workers that wait for their turn, see `waitForTurn()`.
    var parked = 0
    var total = 0
    /// The number of calls ever received.
    var received: UInt64 = 0
    var isMonitored = false
    /// Whether a worker has received a call without having waited, since the monitor's last check.
    var hadPendingCall = false
    var isStopped = false
    var startWorker: (@Sendable () -> Bool)?
  }

  private let state = Mutex(State())
  private let limit: Int
  private let wantedLimit: Int
  /// Unparks one worker for each signal.
  private let turns = ThreadSemaphore()
  /// Wakes the monitor.
  private let monitor = ThreadSemaphore()
  /// Microseconds between two checks of the monitor.
  private static let interval: useconds_t = 1000

  /// - Parameters:
  ///   - limit: the largest number of workers.
  ///   - processors: the largest number of workers that wait at the same time.
  init(limit: Int, processors: Int = sysconf(Int32(_SC_NPROCESSORS_ONLN))) {
    self.limit = limit
    wantedLimit = max(1, min(limit, processors))
  }

  /// Starts the first worker.
  /// - Parameter startWorker: starts a thread that waits for a call and after each call calls
  ///   ``waitForTurn()``. Returns false when the host cannot create a thread.
  /// - Returns: false when the host cannot create the first threads.
  func start(_ startWorker: @escaping @Sendable () -> Bool) -> Bool {
    guard startThread(named: "worker-monitor", { [self] in monitorForever() }) else {
      return false
    }
    return state.withLock { state in
      state.startWorker = startWorker
      addWaiter(&state)
      return state.total > 0
    }
  }

  /// The number of workers.
  var total: Int { state.withLock { $0.total } }

  // MARK: Called by workers

  /// Parks the worker, which has answered its call, until it is to wait for the next one.
  /// - Returns: false when the pool is stopped.
  func waitForTurn() -> Bool {
    let isTurn = state.withLock { state in
      if state.isStopped { return true }
      guard state.waiting < state.wanted else {
        state.parked += 1
        return false
      }
      state.waiting += 1
      return true
    }
    if !isTurn { turns.wait() }
    return !state.withLock { $0.isStopped }
  }

  /// Records that a worker which waited has received a call.
  /// - Parameter withoutWaiting: whether the call was pending already when the worker asked for
  ///   one.
  func didReceive(withoutWaiting: Bool) {
    state.withLock { state in
      state.waiting -= 1
      state.received &+= 1
      if withoutWaiting {
        state.hadPendingCall = true
        state.wanted = min(state.wanted + 1, wantedLimit)
        if state.waiting < state.wanted - 1 { addWaiter(&state) }
      }
      if !state.isMonitored {
        state.isMonitored = true
        monitor.signal()
      }
    }
  }

  /// Stops the pool, because there will be no more calls: parked workers return from
  /// ``waitForTurn()``.
  func stop() {
    state.withLock { state in
      state.isStopped = true
      for _ in 0..<state.parked { turns.signal() }
      state.parked = 0
    }
  }

  /// Makes one more worker wait: a parked one, or a new one below the limit.
  private func addWaiter(_ state: inout State) {
    if state.parked > 0 {
      state.parked -= 1
      state.waiting += 1
      turns.signal()
    } else if state.total < limit, state.startWorker?() == true {
      state.total += 1
      state.waiting += 1
    }
  }

  // MARK: The monitor

  private func monitorForever() {
    while true {
      monitor.wait()
      var received = state.withLock { $0.received }
      repeat { usleep(Self.interval) } while check(&received)
    }
  }

  /// Adjusts the number of workers that wait.
  /// - Parameter received: the number of calls received at the last check; updated.
  /// - Returns: false when there are no calls, so that the monitor can sleep.
  private func check(_ received: inout UInt64) -> Bool {
    state.withLock { state in
      let isQuiet = state.received == received
      received = state.received
      if isQuiet && state.waiting > 0 || state.isStopped {
        state.isMonitored = false
        return false
      }
      if isQuiet { addWaiter(&state) }
      if !state.hadPendingCall { state.wanted = max(1, state.wanted - 1) }
      state.hadPendingCall = false
      return true
    }
  }
}
