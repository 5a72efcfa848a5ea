// Admits device calls to the server's threads.
//
// Two rules. At most `limit` calls run at once over all sessions, fewer than each session has
// threads, so that messages that never wait (identification, release, poll) always find a thread:
// nothing can deadlock by waiting for them. And at most `ownerLimit` calls run for one client
// process, so that a hostile client cannot take every thread: its other calls wait in line, as they
// would for a lock in the kernel, and the lines of different clients are served in turn.
//
// A call that has to wait costs no thread: it is kept as a closure and run by the thread that
// makes room for it. There are never more of them than client threads, each waiting in one call.

internal import DequeModule
internal import Glibc
internal import Synchronization

final class CallGate: Sendable {
  typealias Call = @Sendable () -> Void

  private struct Owner {
    var running = 0
    var waiting = Deque<Call>()
    /// In `State.ready`: something waits and may run as soon as a thread is free.
    var isReady = false
  }

  private struct State {
    var running = 0
    var waiting = 0
    var isClosed = false
    var owners: [Int32: Owner] = [:]
    var ready = Deque<Int32>()
  }

  private let limit: Int
  private let ownerLimit: Int
  private let state = Mutex(State())

  init(limit: Int, ownerLimit: Int) {
    self.limit = limit
    self.ownerLimit = ownerLimit
  }

  /// Runs `call` for the process `owner`, now on this thread or later on another one.
  func run(for owner: Int32, _ call: @escaping Call) {
    guard state.withLock({ admit(call, of: owner, to: &$0) }) else { return }
    call()
    var finished = owner
    while let next = state.withLock({ finish(finished, in: &$0) }) {
      next.call()
      finished = next.owner
    }
  }

  /// Calls that run and calls that wait.
  var counts: (running: Int, waiting: Int) {
    state.withLock { ($0.running, $0.waiting) }
  }

  /// Admits nothing more and waits until what runs has ended, or for `seconds`.
  func close(waitingFor seconds: Int) {
    state.withLock { $0.isClosed = true }
    for _ in 0..<(seconds * 200) where counts.running > 0 { usleep(5_000) }
  }

  private func admit(_ call: @escaping Call, of id: Int32, to state: inout State) -> Bool {
    if !state.isClosed, state.running < limit,
      state.owners[id, default: Owner()].running < ownerLimit
    {
      state.running += 1
      state.owners[id, default: Owner()].running += 1
      return true
    }
    state.waiting += 1
    state.owners[id, default: Owner()].waiting.append(call)
    makeReady(id, in: &state)
    return false
  }

  /// One call of `id` has ended.
  /// - Returns: the call that takes its place, already counted as running.
  private func finish(_ id: Int32, in state: inout State) -> (call: Call, owner: Int32)? {
    state.running -= 1
    state.owners[id]?.running -= 1
    makeReady(id, in: &state)
    if let owner = state.owners[id], owner.running == 0, owner.waiting.isEmpty {
      state.owners[id] = nil
    }
    guard !state.isClosed, let next = state.ready.popFirst() else { return nil }
    state.owners[next]?.isReady = false
    guard let call = state.owners[next]?.waiting.popFirst() else { return nil }
    state.waiting -= 1
    state.running += 1
    state.owners[next]?.running += 1
    makeReady(next, in: &state)
    return (call, next)
  }

  private func makeReady(_ id: Int32, in state: inout State) {
    guard let owner = state.owners[id], !owner.isReady, !owner.waiting.isEmpty,
      owner.running < ownerLimit
    else { return }
    state.owners[id]?.isReady = true
    state.ready.append(id)
  }
}
