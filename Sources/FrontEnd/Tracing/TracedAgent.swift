// SPDX-License-Identifier: Apache-2.0

#if arch(x86_64)
  internal import CLinux
  internal import Glibc
  package import Host
  package import SystemPackage

  /// A task made by ``SeizedThread/makeAgent(allowedFilters:)``, as the thread that traces it sees
  /// it. It is stopped except during a call. The kernel kills it when the thread ends
  /// (PTRACE_O_EXITKILL).
  package final class TracedAgent {
    package let task: HostTask
    /// A pidfd, which becomes readable when the task has ended.
    package let process: OwnedDescriptor
    private let registers: user_regs_struct
    private var isGone = false

    /// - Parameters:
    ///   - task: a task that is traced by this thread and has just been made.
    ///   - registers: of a thread that has executed the instruction `syscall` just before its
    ///     instruction pointer.
    init(_ task: HostTask, at registers: user_regs_struct, options: UInt64) throws(Errno) {
      self.task = task
      self.registers = registers
      process = try OwnedDescriptor(checking: CLinux_pidfd_open(task.id, false))
      guard waitForStop() != nil else { throw .noSuchProcess }
      let all =
        options | UInt64(PTRACE_O_TRACESYSGOOD.rawValue) | UInt64(PTRACE_O_EXITKILL.rawValue)
      guard CLinux_ptrace(Int32(PTRACE_SETOPTIONS.rawValue), task.id, 0, all) == 0 else {
        throw .noSuchProcess
      }
      // All signals are blocked since the task was made. SIGTRAP reports the end of a call.
      var mask = ~(UInt64(1) << UInt64(SIGTRAP - 1))
      try ptrace(PTRACE_SETSIGMASK, address: 8, data: &mask)
    }

    /// Executes one system call.
    /// - Throws: the call's errno; `.noSuchProcess` when the task is gone.
    package func call(_ number: UInt64, _ arguments: [UInt64]) throws(Errno) -> UInt64 {
      guard !isGone else { throw .noSuchProcess }
      var registers = registers
      let a = arguments + Array(repeating: 0, count: max(0, 6 - arguments.count))
      (registers.rdi, registers.rsi, registers.rdx) = (a[0], a[1], a[2])
      (registers.r10, registers.r8, registers.r9) = (a[3], a[4], a[5])
      registers.rip &-= 2
      (registers.orig_rax, registers.rax) = (.max, number)
      // A stop signal can interrupt a call although all other signals are blocked. The kernel would
      // then restart the call, which is done by hand here.
      for _ in 0..<1_000 {
        try ptrace(PTRACE_SETREGS, data: &registers)
        let value = Int64(bitPattern: try step())
        if (-516 ... -512).contains(value) { continue }
        if (-4095..<0).contains(value) { throw Errno(rawValue: CInt(-value)) }
        return UInt64(bitPattern: value)
      }
      throw .interrupted
    }

    /// Executes one instruction, a system call.
    /// - Returns: register RAX.
    private func step() throws(Errno) -> UInt64 {
      while true {
        guard CLinux_ptrace(Int32(PTRACE_SINGLESTEP.rawValue), task.id, 0, 0) == 0,
          let status = waitForStop()
        else {
          end()
          throw .noSuchProcess
        }
        var after = user_regs_struct()
        try ptrace(PTRACE_GETREGS, data: &after)
        if after.rip == registers.rip { return after.rax }
        // A stop signal came before the instruction, or the instruction is not mapped any more.
        if [SIGSEGV, SIGILL, SIGBUS].contains(status >> 8 & 0xff) {
          end()
          throw .noSuchProcess
        }
      }
    }

    /// Kills the task and waits for its end. A tracer needs no CAP_KILL to kill a stopped tracee.
    package func end() {
      _ = CLinux_ptrace(Int32(PTRACE_KILL.rawValue), task.id, 0, 0)
      CLinux_pidfd_kill(process.rawValue)
      while !isGone { _ = waitForStop() }
    }

    private func ptrace<T>(
      _ request: __ptrace_request, address: UInt64 = 0, data: inout T
    ) throws(Errno) {
      guard task.ptrace(request, address: address, data: &data) else {
        end()
        throw .noSuchProcess
      }
    }

    /// Waits until the task stops.
    /// - Returns: the wait status; `nil` when the task has ended instead, and is gone.
    private func waitForStop() -> Int32? {
      let status = task.waitForStop()
      if status == nil { isGone = true }
      return status
    }
  }
#endif
