// SPDX-License-Identifier: Apache-2.0

internal import DequeModule
internal import Glibc
internal import Synchronization

/// Limits how many device calls run at the same time, in the whole server and for one client
/// process.
///
/// At most `limit` calls run at once in all sessions. A session has more threads than that, so
/// messages that never wait (descriptor lookup, release, poll) always find a thread, and a call
/// that waits for such a message cannot deadlock.
///
/// At most `ownerLimit` calls run at once for one client process, so that a hostile client cannot
/// occupy every thread. Its other calls wait in a queue, as they would for a lock in the kernel.
/// The queues of different processes are served in turn.
///
/// A call that waits occupies no thread: it is kept as a closure, and the thread whose call ends
/// runs the next one. There are never more waiting calls than client threads, because each client
/// thread waits in one call.
final class CallLimiter: Sendable {
  typealias Call = @Sendable () -> Void

  private struct WaitingCall {
    let call: Call
  }

  /// The calls of one client process.
  private struct Owner {
    var running = 0
    var waiting = Deque<WaitingCall>()
    /// Whether the owner is in `State.ready`: it has a waiting call that may run as soon as a
    /// thread is free.
    var isReady = false
  }

  private struct State {
    var running = 0
    var waiting = 0
    var isStopped = false
    /// By process id.
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

  /// Runs `call` for the process `owner`: at once on this thread, or later on the thread of another
  /// call.
  func run(for owner: Int32, _ call: @escaping Call) {
    guard state.withLock({ admit(call, of: owner, in: &$0) }) else { return }
    call()
    var finished = owner
    while let next = state.withLock({ finish(finished, in: &$0) }) {
      next.call()
      finished = next.owner
    }
  }

  /// The numbers of running and of waiting calls.
  var counts: (running: Int, waiting: Int) {
    state.withLock { ($0.running, $0.waiting) }
  }

  /// Admits no more calls, and waits up to `seconds` for the end of the running ones.
  func stop(waitingFor seconds: Int) {
    state.withLock { $0.isStopped = true }
    for _ in 0..<(seconds * 200) where counts.running > 0 { usleep(5_000) }
  }

  /// Counts `call` as running when the limits allow it, otherwise appends it to the queue of `id`.
  /// - Returns: whether the caller must run it now.
  private func admit(_ call: @escaping Call, of id: Int32, in state: inout State) -> Bool {
    if !state.isStopped, state.running < limit,
      state.owners[id, default: Owner()].running < ownerLimit
    {
      state.running += 1
      state.owners[id, default: Owner()].running += 1
      return true
    }
    state.waiting += 1
    state.owners[id, default: Owner()].waiting.append(WaitingCall(call: call))
    markReady(id, in: &state)
    return false
  }

  /// Counts the end of one call of `id`.
  /// - Returns: the call that runs in its place, already counted as running.
  private func finish(_ id: Int32, in state: inout State) -> (call: Call, owner: Int32)? {
    state.running -= 1
    state.owners[id]?.running -= 1
    markReady(id, in: &state)
    if let owner = state.owners[id], owner.running == 0, owner.waiting.isEmpty {
      state.owners[id] = nil
    }
    guard !state.isStopped, let next = state.ready.popFirst() else { return nil }
    state.owners[next]?.isReady = false
    guard let call = state.owners[next]?.waiting.popFirst()?.call else { return nil }
    state.waiting -= 1
    state.running += 1
    state.owners[next]?.running += 1
    markReady(next, in: &state)
    return (call, next)
  }

  /// Appends `id` to `state.ready` when it has a waiting call and is below its limit.
  private func markReady(_ id: Int32, in state: inout State) {
    guard let owner = state.owners[id], !owner.isReady, !owner.waiting.isEmpty,
      owner.running < ownerLimit
    else { return }
    state.owners[id]?.isReady = true
    state.ready.append(id)
  }
}
