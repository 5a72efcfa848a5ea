// SPDX-License-Identifier: Apache-2.0

// Decides, for each address space, whether the kernel pins its pages, and ends the agents of
// processes that have ended.
//
// An agent keeps the memory of its client. So a thread watches the processes, and ends the agent of
// a process that has ended. Pages that are still pinned stay.

internal import CLinux
internal import Glibc
package import Host
internal import Synchronization
package import SystemPackage

package final class ExactPinning: Sendable {
  /// The address spaces that have an agent at the same time. Each takes a process, a thread and
  /// eight descriptors.
  private static let limit = 256

  private struct Watch {
    let processID: Int32
    let process: OwnedDescriptor
    /// Keeps the object, so that the next call of the process finds the agent.
    let space: AddressSpace
    var agent: (any MemoryAgent)?
    /// Whether the agent is being made.
    var isDeciding = true
  }

  private struct State {
    var watches: [Int32: Watch] = [:]
    var isWatching = false
    /// The number of agents whose process has ended and that have not ended yet.
    var ending = 0
    /// The processes, by their pidfds, that have ended while their agent was made.
    var endedEarly: Set<Int32> = []
  }

  private let ends: EpollSet
  private let state = Mutex(State())

  package init() throws(Errno) {
    ends = try EpollSet()
  }

  /// What became of a call that prepared its address space.
  package enum Outcome {
    /// The call waits for its answer.
    case notAnswered
    /// The caller's thread makes the call again.
    case answered
  }

  /// Decides how pages of `space` are pinned, if that is not decided yet.
  /// - Parameter start: makes an agent from the thread that makes the call. Throws when the call is
  ///   not answered; returns an agent, or why there is none, when it is.
  package func prepare(
    _ space: AddressSpace, start: () throws(Errno) -> Result<any MemoryAgent, Errno>
  ) -> Outcome {
    space.pinning.decideOnce { decide(space, start) } ?? .notAnswered
  }

  private func decide(
    _ space: AddressSpace, _ start: () throws(Errno) -> Result<any MemoryAgent, Errno>
  ) -> Outcome {
    var outcome = Outcome.notAnswered
    var ends: OwnedDescriptor?
    do throws(Errno) {
      let process = try OwnedDescriptor(checking: CLinux_pidfd_open(space.processID, false))
      ends = process
      guard reserve(process, for: space) else { throw .tooManyOpenFiles }
      defer { finishDeciding(process) }
      do throws(Errno) {
        let result = try start()
        outcome = .answered
        let agent = try result.get()
        // When the process ends from here on, the watching thread ends the agent. The calls that
        // prepare the agent then fail.
        guard attach(agent, to: process) else {
          agent.end()
          throw .noSuchProcess
        }
        space.pinning.decide(try Self.pins(of: agent), of: process)
        if !isWatched(process) { space.pinning.end() }
      } catch {
        forget(space)
        throw error
      }
    } catch {
      space.pinning.decideInPlace()
      if let ends, !Self.hasEnded(ends) { PinningReport.shared.explain(Self.reason(error)) }
    }
    return outcome
  }

  private static func pins(of agent: any MemoryAgent) throws(Errno) -> ExactPins {
    // The accounting of iommufd enforces the limit of the client.
    CLinux_prlimit_memlock_raise(agent.task.id)
    do throws(Errno) {
      return try ExactPins(agent)
    } catch {
      agent.end()
      throw error
    }
  }

  /// - Parameter process: a pidfd.
  private static func hasEnded(_ process: OwnedDescriptor) -> Bool {
    var request = pollfd(fd: process.rawValue, events: Int16(POLLIN), revents: 0)
    return poll(&request, 1, 0) != 0
  }

  private static func reason(_ error: Errno) -> String {
    switch error {
    case .resourceBusy: "a client is traced by a debugger"
    case .permissionDenied: "a client has a seccomp filter of its own"
    case .tooManyOpenFiles: "more than \(limit) clients, or too few descriptors"
    case .notSupported: "clients of this kind cannot be traced"
    case .noFunction: "the kernel has no io_uring"
    case .notPermitted: "io_uring is not permitted (kernel.io_uring_disabled, or a container)"
    default: "\(error)"
    }
  }

  // MARK: The ends of processes

  private func reserve(_ process: OwnedDescriptor, for space: AddressSpace) -> Bool {
    state.withLock { state in
      guard state.watches.count < Self.limit else { return false }
      if !state.isWatching {
        guard startThread(named: "agent-ends", { self.watchForever() }) else { return false }
        state.isWatching = true
      }
      let number = process.rawValue
      guard (try? ends.add(number, events: EPOLLIN.rawValue, tag: number)) != nil else {
        return false
      }
      state.watches[number] = Watch(
        processID: space.processID, process: process, space: space)
      return true
    }
  }

  /// - Returns: false when the process has ended.
  private func attach(_ agent: any MemoryAgent, to process: OwnedDescriptor) -> Bool {
    state.withLock { state in
      guard state.watches[process.rawValue] != nil else { return false }
      state.watches[process.rawValue]?.agent = agent
      return true
    }
  }

  private func finishDeciding(_ process: OwnedDescriptor) {
    state.withLock { state in
      state.watches[process.rawValue]?.isDeciding = false
      if state.endedEarly.remove(process.rawValue) != nil { state.ending -= 1 }
    }
  }

  private func isWatched(_ process: OwnedDescriptor) -> Bool {
    state.withLock { $0.watches[process.rawValue] != nil }
  }

  /// Ends the agent that was made from a thread of `process`, which leaves its address space.
  /// - Returns: the agent, which is a child of the process; `nil` when there is none.
  package func leave(process: Int32) -> HostTask? {
    let watch = state.withLock { $0.watches.first { $0.value.processID == process }?.value }
    guard let watch, let agent = watch.agent else { return nil }
    leave(watch.space)
    return agent.task
  }

  /// Ends the agent that was made from a thread of `process`, if the process is ending. The kernel
  /// detaches an ending process from its memory before it closes the files of the process
  /// (do_exit(): exit_mm(), exit_files()). So the memory is free when the parent is told of the
  /// end, if this is called for the close of a file.
  package func leaveIfEnding(process: Int32) {
    let watch = state.withLock { $0.watches.first { $0.value.processID == process }?.value }
    if let watch, !HostTask(id: process).hasMemory { leave(watch.space) }
  }

  /// Ends the agent of `space`, whose process leaves it.
  package func leave(_ space: AddressSpace) {
    space.pinning.end()
    forget(space)
  }

  private func forget(_ space: AddressSpace) {
    state.withLock { state in
      for (number, watch) in state.watches where watch.space === space {
        ends.remove(number)
        state.watches[number] = nil
      }
    }
  }

  /// Removes a watch whose process has ended. The number of a pidfd that was closed meanwhile may
  /// be that of another one, whose process has not ended.
  private func takeWatch(_ number: Int32, _ state: inout State) -> Watch? {
    guard let watch = state.watches[number], Self.hasEnded(watch.process) else { return nil }
    ends.remove(number)
    state.ending += 1
    if watch.isDeciding { state.endedEarly.insert(number) }
    return state.watches.removeValue(forKey: number)
  }

  /// Waits until the agents of processes that have ended have ended too, at most 100 milliseconds.
  /// The memory of such a process is there until then, and its mappings of device registers.
  package func awaitEnds() {
    for _ in 0..<Self.waits {
      let isEnding = state.withLock { state in
        state.ending > 0 || !state.watches.isEmpty && ends.wait(timeout: 0) != nil
      }
      if !isEnding { return }
      usleep(50)
    }
  }

  private static let waits = 2_000

  private func watchForever() {
    while true {
      guard let number = ends.wait() else { continue }
      guard let watch = state.withLock({ takeWatch(number, &$0) }) else { continue }
      watch.agent?.end()
      watch.space.pinning.end()
      // The thread that makes the agent ends it otherwise.
      if !watch.isDeciding { state.withLock { $0.ending -= 1 } }
    }
  }
}
