// SPDX-License-Identifier: Apache-2.0

internal import FrontEnd
internal import Glibc
internal import Host
internal import SystemPackage

/// Serves one connection of the tracer process, on one thread: ptrace(2) accepts requests only from
/// the thread that has seized the tracee.
final class TracerThread {
  private let socket: OwnedDescriptor

  init(_ socket: OwnedDescriptor) {
    self.socket = socket
  }

  #if arch(x86_64)
    private var thread: SeizedThread?
    /// Descriptors that were made in the thread and not closed, until it is resumed.
    private var descriptors: Set<Int32> = []

    /// The agent that was made from the thread. The connection serves nothing else then.
    private var agent: TracedAgent?

    /// Serves requests until the server closes the connection or the agent ends.
    func run() {
      defer { agent?.end() }
      while isReady, let request = TracerRequest(from: socket) {
        let reply: Int64
        do throws(Errno) {
          reply = try perform(request)
        } catch {
          reply = -Int64(error.rawValue)
        }
        TracerReply.send(reply, over: socket)
      }
      // The server was killed. The thread must continue as if it had never been stopped.
      for number in descriptors { thread?.close(number) }
      thread?.resume(returning: -Errno.connectionAbort.rawValue)
    }

    /// Waits for a request, when there is an agent.
    /// - Returns: false when the agent has ended.
    private var isReady: Bool {
      guard let agent else { return true }
      var requests = [
        pollfd(fd: socket.rawValue, events: Int16(POLLIN), revents: 0),
        pollfd(fd: agent.process.rawValue, events: Int16(POLLIN), revents: 0),
      ]
      while poll(&requests, 2, -1) <= 0 { continue }
      return requests[1].revents == 0
    }

    private static func seize(_ task: HostTask) throws(Errno) -> SeizedThread {
      let address: UInt64
      do throws(Errno) {
        address = try BlockedCall(of: task).programCounter
      } catch {
        throw .notSupported
      }
      return try SeizedThread(seizing: task, returningTo: address)
    }

    private func perform(_ request: TracerRequest) throws(Errno) -> Int64 {
      if let agent {
        guard request.kind == .agentCall else { throw .invalidArgument }
        let words = request.words
        return Int64(bitPattern: try agent.call(words.first ?? 0, Array(words.dropFirst())))
      }
      if request.kind == .seize {
        thread = try Self.seize(HostTask(id: request.value))
        return 0
      }
      guard let thread else { throw .noSuchProcess }
      switch request.kind {
      case .open:
        return record(try thread.open(String(decoding: request.bytes, as: UTF8.self)))
      case .connect:
        return record(try thread.connect(to: request.bytes))
      case .receive:
        descriptors.remove(request.value)
        return record(try thread.receiveDescriptor(from: request.value))
      case .close:
        descriptors.remove(request.value)
        thread.close(request.value)
        return 0
      case .makeAgent:
        defer {
          thread.resumeBeforeCall()
          self.thread = nil
        }
        let agent = try thread.makeAgent(allowedFilters: Int(request.value))
        self.agent = agent
        return Int64(agent.task.id)
      case .agentCall: throw .invalidArgument
      case .resume, .seize:
        thread.resume(returning: request.value)
        descriptors = []
        self.thread = nil
        return 0
      }
    }

    private func record(_ number: Int32) -> Int64 {
      descriptors.insert(number)
      return Int64(number)
    }
  #else
    /// Refuses every request: the system calls of this processor are not known here.
    func run() {
      while TracerRequest(from: socket) != nil {
        TracerReply.send(-Int64(Errno.notSupported.rawValue), over: socket)
      }
    }
  #endif
}
