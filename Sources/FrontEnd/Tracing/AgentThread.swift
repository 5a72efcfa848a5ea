// SPDX-License-Identifier: Apache-2.0

#if arch(x86_64)
  internal import CLinux
  internal import Glibc
  package import Host
  internal import Synchronization
  package import SystemPackage

  /// An agent that a thread of this process traces. ptrace(2) accepts requests from that thread
  /// only, so the thread executes the calls of all others.
  package final class AgentThread: MemoryAgent {
    private struct Call {
      let number: UInt64
      let arguments: [UInt64]
    }

    private struct State {
      var task: HostTask?
      var process: OwnedDescriptor?
      /// Why there is no agent.
      var failure: Errno?
      var call: Call?
      var result: Result<UInt64, Errno>?
      var isEnding = false
      var hasEnded = false
    }

    private static let stackSize = 256 << 10

    private let state = Mutex(State())
    /// Held by the thread that makes a call.
    private let calls = Mutex<Void>(())
    /// Wakes the tracing thread: there is a call, or the agent is to end.
    private let doorbell = ThreadSemaphore()
    /// Wakes the thread that waits for a step of the start or for the result of a call.
    private let wakeup = ThreadSemaphore()
    private let mayProceed = ThreadSemaphore()
    private let ended = ThreadSemaphore()

    /// Makes an agent for the address space of `thread`, which waits in an ioctl that this server
    /// answers, and lets the thread make its ioctl again.
    /// - Parameters:
    ///   - returnAddress: where the ioctl returns to.
    ///   - allowedFilters: the seccomp filters of the thread that are known not to refuse the calls
    ///     of the agent.
    ///   - answer: answers the ioctl, so that the thread stops at its end. The result is not seen.
    /// - Throws: as `SeizedThread.init`, when the ioctl is not answered.
    /// - Returns: the agent, or why there is none; the ioctl is answered in both cases.
    package static func start(
      for thread: HostTask, returningTo returnAddress: UInt64,
      allowedFilters: Int, answer: () -> Void
    ) throws(Errno) -> Result<AgentThread, Errno> {
      let agent = AgentThread()
      let isStarted = startThread(named: "agent-tracer", stackSize: stackSize) {
        agent.run(thread, returnAddress, allowedFilters: allowedFilters)
      }
      guard isStarted else { throw .resourceTemporarilyUnavailable }
      agent.wakeup.wait()
      if let failure = agent.state.withLock({ $0.failure }) { throw failure }
      answer()
      agent.mayProceed.signal()
      agent.wakeup.wait()
      if let failure = agent.state.withLock({ $0.failure }) { return .failure(failure) }
      return .success(agent)
    }

    private init() {}

    package var task: HostTask { state.withLock { $0.task } ?? HostTask(id: -1) }

    package func call(_ systemCall: AgentCall, _ arguments: UInt64...) throws(Errno) -> UInt64 {
      let result = calls.withLock { _ -> Result<UInt64, Errno> in
        let isAlive = state.withLock { state in
          if state.hasEnded { return false }
          state.call = Call(number: systemCall.rawValue, arguments: arguments)
          return true
        }
        guard isAlive else { return .failure(.noSuchProcess) }
        doorbell.signal()
        wakeup.wait()
        return state.withLock { $0.result.take() } ?? .failure(.noSuchProcess)
      }
      return try result.get()
    }

    package func end() {
      let process = state.withLock { state in
        state.isEnding = true
        return state.process
      }
      // Ends the call that the agent executes.
      if let process { CLinux_pidfd_kill(process.rawValue) }
      doorbell.signal()
      ended.wait()
      ended.signal()
    }

    // MARK: The tracing thread

    private func run(_ thread: HostTask, _ returnAddress: UInt64, allowedFilters: Int) {
      guard let agent = start(thread, returnAddress, allowedFilters) else {
        ended.signal()
        return
      }
      while let call = nextCall() {
        let result: Result<UInt64, Errno>
        do throws(Errno) {
          result = .success(try agent.call(call.number, call.arguments))
        } catch {
          result = .failure(error)
        }
        state.withLock { $0.result = result }
        wakeup.signal()
      }
      agent.end()
      let hasCaller = state.withLock { state in
        state.hasEnded = true
        return state.call.take() != nil
      }
      if hasCaller { wakeup.signal() }
      ended.signal()
    }

    private func start(
      _ task: HostTask, _ returnAddress: UInt64, _ allowedFilters: Int
    ) -> TracedAgent? {
      defer { wakeup.signal() }
      let thread: SeizedThread
      do throws(Errno) {
        thread = try SeizedThread(seizing: task, returningTo: returnAddress)
      } catch {
        state.withLock { $0.failure = error }
        return nil
      }
      wakeup.signal()
      mayProceed.wait()
      do throws(Errno) {
        defer { thread.resumeBeforeCall() }
        let agent = try thread.makeAgent(allowedFilters: allowedFilters)
        state.withLock { ($0.task, $0.process) = (agent.task, agent.process) }
        return agent
      } catch {
        state.withLock { $0.failure = error }
        return nil
      }
    }

    /// Waits for a call.
    /// - Returns: `nil` when the agent is to end.
    private func nextCall() -> Call? {
      while true {
        doorbell.wait()
        let (call, isEnding) = state.withLock { ($0.isEnding ? nil : $0.call.take(), $0.isEnding) }
        if isEnding { return nil }
        if let call { return call }
      }
    }
  }
#endif
