// SPDX-License-Identifier: Apache-2.0

// Answers messages whose callers must not wait for the end of the device's call.
//
//   - A thread that is being killed waits for its answer all the same (fuse:
//     request_wait_answer()), and with it its process, which keeps its memory, its descriptors and
//     the userfaultfd that the device's call may be waiting for. The kernel reports the first
//     signal of a waiting thread (FUSE_INTERRUPT), which need not be the fatal one. So the thread
//     is looked at until its call is answered.
//   - A process that ends closes its files one after the other, and waits for each release. The
//     release may wait for the process's own memory. So a release is answered after a while, and at
//     once when the same process has such a release or a call that was answered early.
//
// The thread sleeps while there is no interrupted call and no release.

internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage

final class CallerMonitor: Sendable {
  private struct Release {
    let request: CUSERequest
    let client: ClientIdentity
    /// Milliseconds of CLOCK_MONOTONIC.
    let end: Int
    /// Whether the release was answered before it has ended.
    var isLate = false
  }

  private struct InterruptedCall {
    let request: CUSERequest
    /// Milliseconds of CLOCK_MONOTONIC, when the caller was first seen being killed.
    var killedSince: Int?
  }

  private struct State {
    /// The messages that are not answered, by their keys.
    var watched: [UInt: CUSERequest] = [:]
    /// Those of them whose callers have got a signal.
    var interrupted: [UInt: InterruptedCall] = [:]
    /// Releases that have not ended, by their messages.
    var releases: [ObjectIdentifier: Release] = [:]
    /// The number of calls and releases of each process that were answered early and have not
    /// ended.
    var late: [ClientIdentity: Int] = [:]
    var isRunning = false

    var isIdle: Bool { interrupted.isEmpty && !releases.values.contains { !$0.isLate } }

    mutating func addLate(_ change: Int, of client: ClientIdentity) {
      let count = late[client, default: 0] + change
      late[client] = count > 0 ? count : nil
    }
  }

  private let state = Mutex(State())
  private let threads = JobThreads(named: "caller-monitor")

  /// Milliseconds between two looks at the interrupted callers.
  private static let interval = 50
  /// Milliseconds after which a release is answered, and after which a call of a thread that is
  /// being killed is. Nearly all end earlier, and then a process that has ended holds nothing, as
  /// in the kernel.
  private static let patience = 400

  // MARK: Calls

  func watch(_ request: CUSERequest) {
    state.withLock { $0.watched[request.key] = request }
  }

  func unwatch(_ request: CUSERequest) {
    state.withLock { state in
      state.watched[request.key] = nil
      state.interrupted[request.key] = nil
    }
  }

  /// Records that the caller of a message has got a signal.
  func interrupted(_ key: UInt) {
    state.withLock { state in
      guard let request = state.watched[key] else { return }
      if state.interrupted[key] == nil {
        state.interrupted[key] = InterruptedCall(request: request)
      }
      startIfNeeded(&state)
    }
  }

  /// Records the end of a call of `client` that was answered early.
  func abandonedCallEnded(of client: ClientIdentity) {
    state.withLock { $0.addLate(-1, of: client) }
  }

  // MARK: Releases

  /// Answers `request` when the release has not ended after a while.
  func releaseBegins(_ request: CUSERequest, of client: ClientIdentity) {
    let isLate = state.withLock { state in
      let isLate = state.late[client] != nil
      state.releases[ObjectIdentifier(request)] = Release(
        request: request, client: client, end: MonotonicTime.now + Self.patience, isLate: isLate)
      if isLate { state.addLate(1, of: client) } else { startIfNeeded(&state) }
      return isLate
    }
    if isLate { request.succeed() }
  }

  func releaseEnded(_ request: CUSERequest) {
    state.withLock { state in
      let release = state.releases.removeValue(forKey: ObjectIdentifier(request))
      if let release, release.isLate { state.addLate(-1, of: release.client) }
    }
    request.succeed()
  }

  // MARK: The thread

  private func startIfNeeded(_ state: inout State) {
    guard !state.isRunning else { return }
    state.isRunning = threads.run { [self] in
      repeat { usleep(useconds_t(Self.interval) * 1000) } while check()
    }
  }

  /// - Returns: false when there is nothing left to look at.
  private func check() -> Bool {
    let now = MonotonicTime.now
    for (key, call) in state.withLock({ $0.interrupted })
    where Self.isBeingKilled(call.request.taskID) {
      let since = call.killedSince ?? now
      state.withLock { $0.interrupted[key]?.killedSince = since }
      if now - since >= Self.patience { abandon(call.request) }
    }
    let late = state.withLock { state -> [CUSERequest] in
      var late: [CUSERequest] = []
      for (key, release) in state.releases where !release.isLate && release.end <= now {
        state.releases[key]?.isLate = true
        state.addLate(1, of: release.client)
        late.append(release.request)
      }
      return late
    }
    for request in late { request.succeed() }
    return state.withLock { state in
      state.isRunning = !state.isIdle
      return state.isRunning
    }
  }

  private func abandon(_ request: CUSERequest) {
    // Counted first: the process may close its files at once.
    if let client = request.client { state.withLock { $0.addLate(1, of: client) } }
    if !request.abandon(), let client = request.client {
      state.withLock { $0.addLate(-1, of: client) }
    }
  }

  /// Whether SIGKILL is pending for the thread. Every fatal signal, exit_group(2) and execve(2)
  /// make SIGKILL pending for the threads that must end (kernel/signal.c: complete_signal(),
  /// zap_other_threads()).
  private static func isBeingKilled(_ thread: Int32) -> Bool {
    // A thread that waits for its answer does not end, so the file is there.
    guard let status = try? ProcFile.read("/proc/\(thread)/status"),
      let text = ProcFile.field("SigPnd", of: status), let pending = UInt64(text, radix: 16)
    else { return false }
    return pending >> UInt64(SIGKILL - 1) & 1 == 1
  }
}
