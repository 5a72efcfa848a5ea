// SPDX-License-Identifier: Apache-2.0

#if arch(x86_64)
  internal import CLinux
  internal import Glibc
  internal import Host
  package import SystemPackage

  extension SeizedThread {
    /// Makes a task that shares the thread's memory, and is traced by the calling thread. The task
    /// executes no instruction but those of ``TracedAgent/call(_:_:)``.
    ///
    /// The task is a child of the thread's process without exit signal: the process is not told of
    /// its end, and wait(2) without __WALL does not find it.
    /// - Parameter allowedFilters: the seccomp filters of the thread that are known not to refuse
    ///   the calls of the agent.
    /// - Throws: `.permissionDenied` when the thread has further filters; `.noSuchProcess`; an
    ///   errno of clone(2), such as `.resourceTemporarilyUnavailable`.
    package func makeAgent(allowedFilters: Int) throws(Errno) -> TracedAgent {
      try awaitStop()
      guard isSeccompSuspended || (task.seccompFilters ?? .max) <= allowedFilters else {
        throw .permissionDenied
      }
      var registers = saved
      registers.rip = saved.rip &- 2
      (registers.rax, registers.orig_rax) = (UInt64(cloneNumber), .max)
      registers.rdi = 0x100 | 0x200 | 0x400  // CLONE_VM, CLONE_FS, CLONE_FILES
      // A stack that does not exist: the task must not touch the stack of the thread.
      registers.rsi = 4096
      (registers.rdx, registers.r10, registers.r8) = (0, 0, 0)
      // The new task inherits the options. When this tracer dies before the task is known to it,
      // the thread dies as well: the new task would otherwise execute the thread's code.
      try setOptions(Self.traceClone | Self.killAtExit)
      try ptrace(PTRACE_SETREGS, data: &registers)
      var agent: Int32 = 0
      var exitStops = 0
      while exitStops < 2 {
        guard let (stop, event) = try runToStop() else { throw .noSuchProcess }
        if event == Self.cloneEvent {
          var message: UInt64 = 0
          try ptrace(PTRACE_GETEVENTMSG, data: &message)
          agent = Int32(truncatingIfNeeded: message)
        } else if stop == SIGTRAP | 0x80 {
          exitStops += 1
        }
      }
      try setOptions(0)
      guard agent != 0 else {
        var after = user_regs_struct()
        try ptrace(PTRACE_GETREGS, data: &after)
        throw Errno(rawValue: CInt(truncatingIfNeeded: -Int64(bitPattern: after.rax)))
      }
      return try TracedAgent(
        HostTask(id: agent), at: saved, options: isSeccompSuspended ? Self.suspendSeccomp : 0)
    }

    private func setOptions(_ options: UInt64) throws(Errno) {
      let all =
        options | UInt64(PTRACE_O_TRACESYSGOOD.rawValue)
        | (isSeccompSuspended ? Self.suspendSeccomp : 0)
      guard CLinux_ptrace(Int32(PTRACE_SETOPTIONS.rawValue), task.id, 0, all) == 0 else {
        throw .noSuchProcess
      }
    }

    private func runToStop() throws(Errno) -> (stop: Int32, event: Int32)? {
      guard CLinux_ptrace(Int32(PTRACE_SYSCALL.rawValue), task.id, 0, 0) == 0,
        let status = waitForStop()
      else { return nil }
      return (status >> 8 & 0xff, status >> 16)
    }

    private static let traceClone = UInt64(PTRACE_O_TRACECLONE.rawValue)
    private static let killAtExit = UInt64(PTRACE_O_EXITKILL.rawValue)
    private static let cloneEvent: Int32 = 3  // PTRACE_EVENT_CLONE
  }

  /// SYS_clone
  private let cloneNumber = 56
#endif
