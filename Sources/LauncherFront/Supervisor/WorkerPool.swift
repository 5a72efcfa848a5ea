// SPDX-License-Identifier: Apache-2.0

// Decides how many worker threads wait for the next call, and how many calls of one client run.
//
// When a call arrives, the kernel wakes all threads that wait for one, and one of them gets the
// call (seccomp: recv_wait_event()). If several threads wait, the needless wake-ups take longer
// than a short call. So normally one worker waits, receives a call, answers it and waits again, and
// the other workers are parked. A further worker must wait when
//
//   - the worker that waited takes long to answer its call. A monitor thread checks every
//     millisecond whether no worker waits and no call was received. The monitor sleeps while there
//     are no calls.
//   - a call runs that the monitor has seen before. Such a call may be one of many that wait for
//     memory, so a worker waits beside each that receives a call, and the next call of another
//     client is received at once.
//   - calls arrive faster than one worker answers them. A worker that receives a call without
//     having waited makes one more worker wait, up to the number of processors. After a millisecond
//     without such a call the number decreases again.
//
// A worker counts as waiting from the moment in which it is unparked, so that no second worker is
// unparked for the same reason.
//
// A call may take as long as a client likes, because a client serves page faults of its own memory
// (userfaultfd). So each process has a share of the workers (``Shares``). A call beyond it waits
// here and occupies no worker.

internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization

final class WorkerPool<Call: Sendable>: Sendable {
  /// A call that a worker answers.
  struct RunningCall {
    /// `nil` for a call that began while few calls ran.
    fileprivate let client: ClientIdentity?
    /// The number of the monitor's checks at the begin.
    fileprivate let epoch: UInt64
  }

  /// What a worker does next.
  enum Step {
    /// Answers the call, and calls ``WorkerPool/finish(_:)``.
    case answer(Call, RunningCall)
    /// Waits for a call, and calls ``WorkerPool/begin(_:withoutWaiting:by:)`` or
    /// ``WorkerPool/receiveFailed()``.
    case receive
    /// Ends its thread.
    case end
  }

  private struct State {
    /// Workers that wait for a call, or will after they were unparked or started.
    var waiting = 0
    /// The number of workers that should wait.
    var wanted = 1
    /// Workers that wait for their turn, see `nextTurn()`.
    var parked = 0
    var total = 0
    /// The number of calls ever received.
    var received: UInt64 = 0
    var isMonitored = false
    /// Whether a worker has received a call without having waited, since the monitor's last check.
    var hadPendingCall = false
    var isStopped = false
    var startWorker: (@Sendable () -> Bool)?
    var shares: Shares
    var deferred = WaitingCalls<Call>()
    /// The number of the monitor's checks.
    var epoch: UInt64 = 0
    /// Running calls that began after the last check.
    var young = 0

    /// Whether a call runs that the monitor has seen before.
    var hasOldCall: Bool { shares.used > young }
    /// The number of workers that should wait now.
    var wantedNow: Int { hasOldCall ? max(wanted, 2) : wanted }

    mutating func begin(for client: ClientIdentity?) -> RunningCall {
      shares.take(for: client)
      young += 1
      return RunningCall(client: client, epoch: epoch)
    }

    mutating func end(_ call: RunningCall) {
      shares.give(backBy: call.client)
      if call.epoch == epoch { young -= 1 }
    }
  }

  private let state: Mutex<State>
  private let limit: Int
  private let wantedLimit: Int
  /// Unparks one worker for each signal.
  private let turns = ThreadSemaphore()
  /// Wakes the monitor.
  private let monitor = ThreadSemaphore()
  /// Calls that may run before the pool looks at their clients. Most of the time fewer run, and a
  /// look-up takes longer than a short call.
  private let unsharedCalls: Int

  /// - Parameters:
  ///   - limit: the largest number of workers.
  ///   - processors: the largest number of workers that wait at the same time.
  ///   - unsharedCalls: the number of calls that run without regard to shares.
  init(
    limit: Int, processors: Int = sysconf(Int32(_SC_NPROCESSORS_ONLN)), unsharedCalls: Int = 16
  ) {
    self.limit = limit
    self.unsharedCalls = unsharedCalls
    wantedLimit = max(1, min(limit, processors))
    state = Mutex(State(shares: Shares(of: limit, .init(user: nil, process: 8))))
  }

  /// Starts the first worker.
  /// - Parameter startWorker: starts a thread that takes steps, ``Step/receive`` first, until
  ///   ``Step/end``. Returns false when the host cannot create a thread.
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

  /// Records that a worker which waited has received a call.
  /// - Parameters:
  ///   - withoutWaiting: whether the call was pending already when the worker asked for one.
  ///   - client: returns the client of the call. Called without the lock, and only when many calls
  ///     run.
  func begin(
    _ call: Call, withoutWaiting: Bool, by client: () -> ClientIdentity
  ) -> Step {
    let unshared = state.withLock { state -> RunningCall? in
      recordReceived(&state, withoutWaiting: withoutWaiting)
      return state.shares.used < unsharedCalls ? state.begin(for: nil) : nil
    }
    if let unshared { return .answer(call, unshared) }
    let client = client()
    let running = state.withLock { state -> RunningCall? in
      guard state.shares.admits(client) else {
        state.deferred.append(call, of: client)
        return nil
      }
      return state.begin(for: client)
    }
    if let running { return .answer(call, running) }
    return nextTurn()
  }

  /// Records that a worker which waited has received no call.
  func receiveFailed() -> Step {
    state.withLock { recordReceived(&$0, withoutWaiting: false) }
    return nextTurn()
  }

  /// Records that a worker has answered its call.
  func finish(_ call: RunningCall) -> Step {
    nextTurn(after: call)
  }

  /// Stops the pool, because there will be no more calls.
  func stop() -> Step {
    state.withLock { state in
      state.isStopped = true
      for _ in 0..<state.parked { turns.signal() }
      state.parked = 0
    }
    return .end
  }

  /// Parks the worker until it is to wait for the next call, unless a call waits here.
  private func nextTurn(after call: RunningCall? = nil) -> Step {
    let step = state.withLock { state -> Step? in
      if let call { state.end(call) }
      if state.isStopped { return .end }
      if state.deferred.count > 0, let next = state.deferred.next(within: state.shares) {
        return .answer(next.call, state.begin(for: next.client))
      }
      guard state.waiting < state.wantedNow else {
        state.parked += 1
        return nil
      }
      state.waiting += 1
      return .receive
    }
    return step ?? park()
  }

  private func park() -> Step {
    while !turns.wait(seconds: Self.parkingSeconds) {
      let hasTurn = state.withLock { state -> Bool? in
        // A signal may have arrived since: then `parked` does not count this worker any more.
        if turns.tryWait() { return true }
        guard state.parked > 0 else { return nil }
        state.parked -= 1
        state.total -= 1
        return false
      }
      if hasTurn == false { return .end }
      if hasTurn == true { break }
    }
    return state.withLock { $0.isStopped } ? .end : .receive
  }

  /// Seconds after which a parked worker ends.
  private static var parkingSeconds: Int { 10 }

  private func recordReceived(_ state: inout State, withoutWaiting: Bool) {
    state.waiting -= 1
    state.received &+= 1
    if withoutWaiting {
      state.hadPendingCall = true
      state.wanted = min(state.wanted + 1, wantedLimit)
      if state.waiting < state.wanted - 1 { addWaiter(&state) }
    }
    if state.waiting == 0, state.hasOldCall { addWaiter(&state) }
    if !state.isMonitored {
      state.isMonitored = true
      monitor.signal()
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

  /// Microseconds between two checks of the monitor.
  private static var interval: useconds_t { 1000 }

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
      state.epoch &+= 1
      state.young = 0
      if isQuiet && state.waiting > 0 || state.isStopped {
        state.isMonitored = false
        return false
      }
      if isQuiet || state.waiting == 0 && state.hasOldCall { addWaiter(&state) }
      if !state.hadPendingCall { state.wanted = max(1, state.wanted - 1) }
      state.hadPendingCall = false
      return true
    }
  }
}
