// SPDX-License-Identifier: Apache-2.0

package import SystemPackage

/// A task that shares the address space of a client and does nothing but execute system calls for
/// this server (Linux: a task with the same task_struct::mm). The kernel pins pages of the caller
/// of a system call only, so pins of a client's pages need such a caller.
package protocol MemoryAgent: AnyObject, Sendable {
  /// The task, in this server's PID namespace.
  var task: HostTask { get }

  /// Executes one system call.
  /// - Returns: what the call returns.
  /// - Throws: the errno of the call; `.noSuchProcess` when the task has ended.
  func call(_ systemCall: AgentCall, _ arguments: UInt64...) throws(Errno) -> UInt64

  /// Ends the task and waits until it has ended. May be called more than once.
  func end()
}

/// The system calls that agents execute, with their numbers on x86-64.
package enum AgentCall: UInt64, Sendable {
  case close = 3
  case mmap = 9
  case madvise = 28
  case setsid = 112
  case prctl = 157
  case memfdCreate = 319
  case ioUringSetup = 425
  case ioUringRegister = 427
  case closeRange = 436
}
