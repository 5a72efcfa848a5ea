// SPDX-License-Identifier: Apache-2.0

// Pins by the kernel under the launcher: how an agent is made from the thread that waits in a
// trapped call.

internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// Held while a thread of a program is traced. The stops of a thread are reported to the thread
/// that traces it, and to the launcher's main thread as well, which is its parent in the same
/// process (kernel: wait_consider_task(), ptrace_reparented()). The main thread must not take them.
final class TracingGate: Sendable {
  static let shared = TracingGate()
  private let mutex = Mutex<Void>(())

  func withLock<Value>(_ body: () -> Value) -> Value { mutex.withLock { _ in body() } }
}

final class LauncherPinning: Sendable {
  private let pinning: ExactPinning
  /// The seccomp filters of a program: those of this process, and the launcher's own.
  private let filters: Int

  init() throws(Errno) {
    pinning = try ExactPinning()
    filters = (HostTask(id: getpid()).seccompFilters ?? 0) + 1
  }

  /// Decides how memory of the caller is pinned, if that is not decided yet.
  func prepare(
    _ client: LauncherClient, for call: TrappedCall, _ listener: SeccompListener
  ) -> ExactPinning.Outcome {
    guard call.architecture == .x8664, let space = try? client.addressSpace() else {
      return .notAnswered
    }
    return pinning.prepare(space) { () throws(Errno) in try makeAgent(for: call, listener) }
  }

  /// Waits for the ends of agents whose processes have ended.
  func awaitEnds() { pinning.awaitEnds() }

  /// Ends the agent of the caller's process, which ends or executes another program by `call`. The
  /// process must not leave a zombie to its parent, or keep one. So its thread removes the agent
  /// before it makes the call again.
  func leave(by call: TrappedCall, _ listener: SeccompListener) -> ExactPinning.Outcome {
    guard let process = try? call.task.processID(),
      call.systemCall != .exit || !ClientAddressSpaces.hasOtherThreads(process),
      let agent = pinning.leave(process: process)
    else { return .notAnswered }
    #if arch(x86_64)
      return TracingGate.shared.withLock { Self.remove(agent, by: call, listener) }
    #else
      return .notAnswered
    #endif
  }

  #if arch(x86_64)
    private static func remove(
      _ agent: HostTask, by call: TrappedCall, _ listener: SeccompListener
    ) -> ExactPinning.Outcome {
      guard call.architecture == .x8664, let child = agent.innermostID,
        let number = Trap.exits.first(where: { $0.systemCall == call.systemCall })?.x8664,
        listener.isWaiting(call.id),
        let thread = try? SeizedThread(
          seizing: call.task, returningTo: call.returnAddress, call: UInt64(number))
      else { return .notAnswered }
      listener.send(.failure(.connectionAbort), to: call.id)
      thread.removeChild(child)
      thread.resumeBeforeCall()
      return .answered
    }
  #endif

  private func makeAgent(
    for call: TrappedCall, _ listener: SeccompListener
  ) throws(Errno) -> Result<any MemoryAgent, Errno> {
    #if arch(x86_64)
      let result = TracingGate.shared.withLock { () -> Result<Result<AgentThread, Errno>, Errno> in
        do throws(Errno) {
          return .success(
            try AgentThread.start(
              for: call.task, returningTo: call.returnAddress, allowedFilters: filters
            ) {
              // Any answer that the kernel does not turn into a restart.
              listener.send(.failure(.connectionAbort), to: call.id)
            })
        } catch {
          return .failure(error)
        }
      }
      return try result.get().map { $0 }
    #else
      throw .notSupported
    #endif
  }
}
