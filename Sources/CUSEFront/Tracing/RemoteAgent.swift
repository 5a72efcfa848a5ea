// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage

/// An agent that a thread of the tracer process traces.
final class RemoteAgent: MemoryAgent, @unchecked Sendable {
  let task: HostTask
  private let process: OwnedDescriptor
  // SAFETY: `calls` guards the connection.
  private let connection: Tracer.Connection
  private let calls = Mutex<Void>(())

  init(_ task: HostTask, _ connection: Tracer.Connection) throws(Errno) {
    // The thread of the tracer process serves this agent only, and ends with the connection.
    connection.discard()
    self.task = task
    self.connection = connection
    process = try OwnedDescriptor(checking: CLinux_pidfd_open(task.id, false))
  }

  func call(_ systemCall: AgentCall, _ arguments: UInt64...) throws(Errno) -> UInt64 {
    let words = [systemCall.rawValue] + arguments
    let bytes = words.flatMap { word in withUnsafeBytes(of: word) { [UInt8]($0) } }
    let result = calls.withLock { _ -> Result<Int64, Errno> in
      do throws(Errno) {
        return .success(try connection.send(.agentCall, bytes: bytes))
      } catch {
        return .failure(error)
      }
    }
    return UInt64(bitPattern: try result.get())
  }

  /// Without CAP_KILL this server cannot kill a task of another user, but its tracer can, and does
  /// when the connection ends.
  func end() {
    CLinux_pidfd_kill(process.rawValue)
    connection.shutDown()
    var request = pollfd(fd: process.rawValue, events: Int16(POLLIN), revents: 0)
    while poll(&request, 1, -1) <= 0 { continue }
  }
}
