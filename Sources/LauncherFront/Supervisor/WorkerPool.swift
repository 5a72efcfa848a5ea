// Who of the worker threads waits for the next call.
//
// The kernel wakes everybody who waits when a call comes, and lets one of them have it (seccomp:
// recv_wait_event()); with several waiting, most of the time of a short call is spent on those who wake
// for nothing. So normally one worker waits, takes a call, answers it and waits again, and the others
// are parked. Another one has to wait when
//
//   - the one who waited answers a call that takes its time. A watch looks every millisecond whether
//     nobody waits and nothing was received; it rests while there are no calls.
//   - calls come faster than one worker answers them: who takes a call without having waited for it lets
//     one more wait, up to the number of processors, until a millisecond has passed without need.
//
// A worker is counted as waiting from when it is told to, so that nobody is told in vain.

internal import Glibc
internal import Host
internal import Synchronization

final class WorkerPool: Sendable {
  private struct State {
    /// Workers who wait for a call or are on their way to.
    var waiting = 0
    /// How many shall.
    var wanted = 1
    var parked = 0
    var total = 0
    /// Calls taken, ever.
    var taken: UInt64 = 0
    var isWatched = false
    /// A call came before anybody waited for it, since the watch last looked.
    var wasLate = false
    var isOver = false
    var startWorker: (@Sendable () -> Bool)?
  }

  private let state = Mutex(State())
  private let limit: Int
  private let wantedLimit: Int
  private let turns = ThreadSemaphore()
  private let watch = ThreadSemaphore()
  private static let tick: useconds_t = 1000

  /// - Parameters:
  ///   - limit: workers at most.
  ///   - processors: how many of them can work at the same time.
  init(limit: Int, processors: Int = sysconf(Int32(_SC_NPROCESSORS_ONLN))) {
    self.limit = limit
    wantedLimit = max(1, min(limit, processors))
  }

  /// - Parameter startWorker: starts a thread that waits for a call, and after each call for its turn:
  ///   ``wait()``. False when there is none to be had.
  func start(_ startWorker: @escaping @Sendable () -> Bool) {
    startThread(named: "crew") { [self] in watchForever() }
    state.withLock { state in
      state.startWorker = startWorker
      bringOne(&state)
      if state.total == 0 {
        // There was no thread to be had: the watch tries again.
        state.isWatched = true
        watch.signal()
      }
    }
  }

  var total: Int { state.withLock { $0.total } }

  // MARK: Workers

  /// A worker is free. Returns when it is to wait for a call; false: when there will be none.
  func wait() -> Bool {
    let isTurn = state.withLock { state in
      if state.isOver { return true }
      guard state.waiting < state.wanted else {
        state.parked += 1
        return false
      }
      state.waiting += 1
      return true
    }
    if !isTurn { turns.wait() }
    return !state.withLock { $0.isOver }
  }

  /// A worker who waited has a call.
  /// - Parameter atOnce: it was there already.
  func take(atOnce: Bool) {
    state.withLock { state in
      state.waiting -= 1
      state.taken &+= 1
      if atOnce {
        state.wasLate = true
        state.wanted = min(state.wanted + 1, wantedLimit)
        if state.waiting < state.wanted - 1 { bringOne(&state) }
      }
      if !state.isWatched {
        state.isWatched = true
        watch.signal()
      }
    }
  }

  /// A worker who waited was told that there will be no more calls.
  func end() {
    state.withLock { state in
      state.isOver = true
      for _ in 0..<state.parked { turns.signal() }
      state.parked = 0
    }
  }

  /// Lets one more worker wait, if there is one to be had.
  private func bringOne(_ state: inout State) {
    if state.parked > 0 {
      state.parked -= 1
      state.waiting += 1
      turns.signal()
    } else if state.total < limit, state.startWorker?() == true {
      state.total += 1
      state.waiting += 1
    }
  }

  // MARK: The watch

  private func watchForever() {
    while true {
      watch.wait()
      var seen = state.withLock { $0.taken }
      repeat { usleep(Self.tick) } while look(&seen)
    }
  }

  /// - Parameter seen: the calls that were taken when it looked last.
  /// - Returns: false when nothing happens.
  private func look(_ seen: inout UInt64) -> Bool {
    state.withLock { state in
      let isQuiet = state.taken == seen
      seen = state.taken
      if isQuiet && state.waiting > 0 || state.isOver {
        state.isWatched = false
        return false
      }
      if isQuiet { bringOne(&state) }
      if !state.wasLate { state.wanted = max(1, state.wanted - 1) }
      state.wasLate = false
      return true
    }
  }
}
