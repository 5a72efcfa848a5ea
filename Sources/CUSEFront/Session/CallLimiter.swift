// SPDX-License-Identifier: Apache-2.0

internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization

/// Limits how many device calls run at the same time, in the whole server and for one client.
///
/// A session has more threads than calls can run in all sessions, so messages that never wait
/// (descriptor lookup, poll) always find a thread, and a call that waits for such a message cannot
/// deadlock.
///
/// A call may take as long as a client likes, because a client serves page faults of its own memory
/// (userfaultfd). So each user and each process has a share (``Shares``). A call beyond it waits in
/// a queue, as it would for a lock in the kernel. The queues are served in turn.
///
/// A call that waits occupies no thread: it is kept as a closure, and the thread whose call ends
/// runs the next one. There are never more waiting calls than client threads, because each client
/// thread waits in one call.
final class CallLimiter: Sendable {
  typealias Body = @Sendable () -> Void

  private struct WaitingCall {
    let call: Body
  }

  private struct State {
    var shares: Shares
    var waiting = WaitingCalls<WaitingCall>()
    var isStopped = false
  }

  private let state: Mutex<State>

  init(limit: Int, _ fractions: Shares.Fractions) {
    state = Mutex(State(shares: Shares(of: limit, fractions)))
  }

  /// Runs `call` for `client`: at once on this thread, or later on the thread of another call.
  func run(for client: ClientIdentity, _ call: @escaping Body) {
    guard state.withLock({ admit(call, of: client, in: &$0) }) else { return }
    call()
    var finished = client
    while let next = state.withLock({ finish(finished, in: &$0) }) {
      next.call()
      finished = next.client
    }
  }

  /// The numbers of running and of waiting calls.
  var counts: (running: Int, waiting: Int) {
    state.withLock { ($0.shares.used, $0.waiting.count) }
  }

  /// Admits no more calls, and waits up to `seconds` for the end of the running ones.
  func stop(waitingFor seconds: Int) {
    state.withLock { $0.isStopped = true }
    for _ in 0..<(seconds * 200) where counts.running > 0 { usleep(5_000) }
  }

  /// Counts `call` as running when its client is within its share, otherwise lets the call wait.
  /// - Returns: whether the caller must run it now.
  private func admit(_ call: @escaping Body, of client: ClientIdentity, in state: inout State)
    -> Bool
  {
    guard !state.isStopped, state.shares.admits(client) else {
      state.waiting.append(WaitingCall(call: call), of: client)
      return false
    }
    state.shares.take(for: client)
    return true
  }

  /// Counts the end of one call of `client`.
  /// - Returns: the call that runs in its place, already counted as running.
  private func finish(
    _ client: ClientIdentity, in state: inout State
  ) -> (call: Body, client: ClientIdentity)? {
    state.shares.give(backBy: client)
    // The common case: this runs after each call.
    if state.waiting.count == 0 || state.isStopped { return nil }
    guard let next = state.waiting.next(within: state.shares) else { return nil }
    state.shares.take(for: next.client)
    return (next.call.call, next.client)
  }
}
