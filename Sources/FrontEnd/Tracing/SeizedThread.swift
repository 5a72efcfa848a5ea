// SPDX-License-Identifier: Apache-2.0

#if arch(x86_64)
  internal import CLinux
  internal import Glibc
  package import Host
  package import SystemPackage

  /// A client's thread that this thread has seized with ptrace(2), and that stops at the end of its
  /// ioctl. System calls can then be injected into the thread.
  ///
  /// All signals of the thread are blocked meanwhile, so that they stay pending with their siginfo.
  /// A thread that is killed is always reaped: an unreaped one would be a zombie that even its
  /// parent cannot remove.
  package final class SeizedThread {
    let task: HostTask
    private var isGone = false
    private var isStopped = false
    /// The address at which the thread continues when its call returns.
    private let returnAddress: UInt64
    /// The number of the call.
    private let callNumber: UInt64
    /// The registers of the thread at the end of its ioctl.
    private(set) var saved = user_regs_struct()
    private var savedMask: UInt64 = 0
    /// Whether the thread's seccomp filters do not see injected calls.
    let isSeccompSuspended: Bool

    /// Seizes the thread, which sleeps in an ioctl or another call. It stops when the call returns,
    /// and not before.
    /// - Parameters:
    ///   - returnAddress: where the call returns to.
    ///   - number: the number of the call; `nil` for ioctl(2).
    /// - Throws: `.resourceBusy` for a thread with a debugger, `.notSupported` for a thread that
    ///   may not be traced, or whose machine code is not known here.
    package init(
      seizing task: HostTask, returningTo returnAddress: UInt64, call number: UInt64? = nil
    ) throws(Errno) {
      self.task = task
      self.returnAddress = returnAddress
      callNumber = number ?? SYS.ioctl
      try Self.requireSystemCall(before: returnAddress, in: task)
      isSeccompSuspended = try Self.seize(task)
      if CLinux_ptrace(Int32(PTRACE_INTERRUPT.rawValue), task.id, 0, 0) < 0 { awaitEnd() }
    }

    // MARK: Injected system calls

    /// Opens `path` for reading and writing, close-on-exec.
    package func open(_ path: String) throws(Errno) -> Int32 {
      let name = Array(path.utf8) + [0]
      return try withScratch(name) { address throws(Errno) in
        let flags = UInt64(O_RDWR | O_CLOEXEC)
        return Int32(try inject(SYS.openat, UInt64(bitPattern: -100), address, flags))
      }
    }

    package func close(_ number: Int32) {
      do throws(Errno) { _ = try inject(SYS.close, UInt64(number)) } catch { return }
    }

    /// Makes a socket of the thread and connects it to the listening socket `name`.
    ///
    /// A descriptor that comes over a socket (SCM_RIGHTS) needs no path, only that both sides share
    /// a network namespace. It costs four injected calls instead of one. Its number is one above
    /// the lowest free one, which the socket has.
    /// - Throws: `.notSupported` when the thread is in another network namespace,
    ///   `.tooManyOpenFiles`.
    package func connect(to name: [UInt8]) throws(Errno) -> Int32 {
      let stream = UInt64(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
      let socket = try inject(SYS.socket, UInt64(AF_UNIX), stream)
      do throws(Errno) {
        let message = SocketMessage(name: name, at: scratchAddress(SocketMessage.length))
        _ = try withScratch(message.bytes) { _ throws(Errno) in
          try inject(SYS.connect, UInt64(socket), message.nameAddress, UInt64(name.count))
        }
      } catch {
        close(Int32(socket))
        throw error == Errno.connectionRefused ? .notSupported : error
      }
      return Int32(socket)
    }

    /// Receives the descriptor that was sent to `socket`, close-on-exec, and closes `socket`.
    package func receiveDescriptor(from socket: Int32) throws(Errno) -> Int32 {
      defer { close(socket) }
      let message = SocketMessage(name: [], at: scratchAddress(SocketMessage.length))
      return try withScratch(message.bytes) { _ throws(Errno) in
        let closeOnExec: UInt64 = 0x4000_0000  // MSG_CMSG_CLOEXEC
        _ = try inject(SYS.recvmsg, UInt64(socket), message.headerAddress, closeOnExec)
        let control = try Self.read(
          SocketMessage.controlLength, at: message.controlAddress, of: task)
        return try SocketMessage.descriptor(in: control)
      }
    }

    /// Restores the registers and the signal mask, makes the ioctl return `result`, a value or
    /// -errno, and detaches from the thread.
    package func resume(returning result: Int32) {
      detach { $0.rax = UInt64(bitPattern: Int64(result)) }
    }

    /// Removes a child of the thread's process that has ended, and that wait(2) has not removed.
    /// - Parameter child: its ID in the thread's PID namespace.
    package func removeChild(_ child: Int32) {
      let all: UInt64 = 0x4000_0000 | 1  // __WALL, WNOHANG
      _ = try? inject(SYS.wait4, UInt64(bitPattern: Int64(child)), 0, all, 0)
    }

    /// Does what ``resume(returning:)`` does, except that the thread makes its call again.
    package func resumeBeforeCall() {
      detach { registers in
        registers.rip &-= 2
        registers.rax = callNumber
      }
    }

    private func detach(after change: (inout user_regs_struct) -> Void) {
      do throws(Errno) {
        try awaitStop()
        var registers = saved
        change(&registers)
        registers.orig_rax = UInt64.max  // not in a system call: the kernel restarts nothing
        try ptrace(PTRACE_SETREGS, data: &registers)
        try ptrace(PTRACE_SETSIGMASK, address: 8, data: &savedMask)
      } catch {
        return
      }
      detach()
    }

    /// Executes one system call in the thread.
    /// - Throws: the call's errno; `.noSuchProcess` when the thread is gone.
    private func inject(_ number: Int, _ arguments: UInt64...) throws(Errno) -> Int {
      try awaitStop()
      var registers = saved
      let a = arguments + Array(repeating: 0, count: max(0, 6 - arguments.count))
      (registers.rdi, registers.rsi, registers.rdx) = (a[0], a[1], a[2])
      (registers.r10, registers.r8, registers.r9) = (a[3], a[4], a[5])
      registers.rip = saved.rip &- 2
      registers.orig_rax = UInt64.max
      registers.rax = UInt64(number)
      // A stop signal can interrupt a call although all other signals are blocked. The kernel would
      // then restart the call, which is done by hand here.
      for _ in 0..<1_000 {
        try ptrace(PTRACE_SETREGS, data: &registers)
        try runToSystemCallStop()
        try runToSystemCallStop()
        var after = user_regs_struct()
        try ptrace(PTRACE_GETREGS, data: &after)
        let value = Int64(bitPattern: after.rax)
        if (-516 ... -512).contains(value) { continue }
        if (-4095..<0).contains(value) { throw Errno(rawValue: CInt(-value)) }
        return Int(value)
      }
      throw .interrupted
    }

    /// Writes `bytes` to the thread's stack, below the part that compiled code may use, and
    /// restores what was there when `body` has returned. The bytes must be few, because the stacks
    /// of coroutines are small.
    private func withScratch<Value>(
      _ bytes: [UInt8], _ body: (_ address: UInt64) throws(Errno) -> Value
    ) throws(Errno) -> Value {
      try awaitStop()
      let address = scratchAddress(bytes.count)
      let before = try Self.read(bytes.count, at: address, of: task)
      try write(bytes, at: address)
      let result: Value
      do throws(Errno) {
        result = try body(address)
      } catch {
        try write(before, at: address)
        throw error
      }
      try write(before, at: address)
      return result
    }

    /// Returns the address of `count` bytes of scratch. The 128 bytes below the stack pointer
    /// belong to the code.
    private func scratchAddress(_ count: Int) -> UInt64 {
      (saved.rsp &- 128 &- UInt64(count)) & ~15
    }

    private func write(_ bytes: [UInt8], at address: UInt64) throws(Errno) {
      var failure: Errno?
      bytes.withUnsafeBytes { buffer in
        do throws(Errno) { try task.write(buffer, at: address) } catch { failure = error }
      }
      if let failure { throw failure }
    }

    private static func read(
      _ count: Int, at address: UInt64, of task: HostTask
    ) throws(Errno) -> [UInt8] {
      var bytes = [UInt8](repeating: 0, count: count)
      var failure: Errno?
      bytes.withUnsafeMutableBytes { buffer in
        do throws(Errno) { try task.read(at: address, into: buffer) } catch { failure = error }
      }
      if let failure { throw failure }
      return bytes
    }

    // MARK: ptrace

    /// Waits until the thread stops, which it does once its ioctl is answered, and saves its
    /// registers and signal mask.
    ///
    /// If the server was killed just before the thread was seized, the ioctl has ended without its
    /// answer, and the thread may stop anywhere. It is then detached from unchanged.
    /// - Throws: `.noSuchProcess` in that case, and when the thread ends instead.
    func awaitStop() throws(Errno) {
      guard !isGone else { throw .noSuchProcess }
      guard !isStopped else { return }
      guard waitForStop() != nil else { throw .noSuchProcess }
      isStopped = true
      try ptrace(PTRACE_GETREGS, data: &saved)
      guard saved.rip == returnAddress, saved.orig_rax == callNumber else {
        detach()
        isGone = true
        throw .noSuchProcess
      }
      try ptrace(PTRACE_GETSIGMASK, address: 8, data: &savedMask)
      var everything = UInt64.max
      try ptrace(PTRACE_SETSIGMASK, address: 8, data: &everything)
    }

    /// - Throws: `.notSupported` unless the two bytes before `address` are the instruction
    ///   `syscall`, which ``inject(_:_:)`` executes again.
    private static func requireSystemCall(
      before address: UInt64, in task: HostTask
    ) throws(Errno) {
      let instruction: [UInt8]
      do throws(Errno) {
        instruction = try read(2, at: address &- 2, of: task)
      } catch {
        throw .notSupported
      }
      guard instruction == [0x0f, 0x05] else { throw .notSupported }
    }

    /// - Returns: whether the thread's seccomp filters are suspended.
    private static func seize(_ task: HostTask) throws(Errno) -> Bool {
      let seize = Int32(PTRACE_SEIZE.rawValue)
      let marked = UInt64(PTRACE_O_TRACESYSGOOD.rawValue)
      // The client's own seccomp filter must not see calls that the client did not make. This
      // option needs CAP_SYS_ADMIN.
      if CLinux_ptrace(seize, task.id, 0, marked | suspendSeccomp) == 0 { return true }
      if CLinux_ptrace(seize, task.id, 0, marked) == 0 { return false }
      let status = (try? ProcFile.read("/proc/\(task.id)/status")) ?? ""
      let tracer = ProcFile.field("TracerPid", of: status) ?? "0"
      throw tracer == "0" ? .notSupported : .resourceBusy
    }

    /// PTRACE_O_SUSPEND_SECCOMP
    static let suspendSeccomp: UInt64 = 1 << 21

    private func detach() {
      if CLinux_ptrace(Int32(PTRACE_DETACH.rawValue), task.id, 0, 0) < 0 { awaitEnd() }
    }

    func ptrace<T>(
      _ request: __ptrace_request, address: UInt64 = 0, data: inout T
    ) throws(Errno) {
      guard task.ptrace(request, address: address, data: &data) else {
        awaitEnd()
        throw .noSuchProcess
      }
    }

    /// Lets the thread run until it enters or leaves a system call.
    private func runToSystemCallStop() throws(Errno) {
      var signal: UInt64 = 0
      while true {
        guard CLinux_ptrace(Int32(PTRACE_SYSCALL.rawValue), task.id, 0, signal) == 0 else {
          awaitEnd()
          throw .noSuchProcess
        }
        guard let status = waitForStop() else { throw .noSuchProcess }
        let (event, stop) = (status >> 16, status >> 8 & 0xff)
        if event == 0 && stop == SIGTRAP | 0x80 { return }
        // Only SIGSTOP arrives here, because the other signals are blocked. It is delivered, and
        // the stop that it causes is an event.
        signal = event == 0 ? UInt64(stop) : 0
      }
    }

    /// Waits until the thread stops.
    /// - Returns: the wait status; `nil` when the thread has ended instead, and is gone.
    func waitForStop() -> Int32? {
      let status = task.waitForStop()
      if status == nil { isGone = true }
      return status
    }

    /// Waits until the thread has ended, and so reaps it. Called when ptrace(2) fails: the thread
    /// is being killed.
    private func awaitEnd() {
      while !isGone { _ = waitForStop() }
    }

    private enum SYS {
      static let close = 3
      static let ioctl: UInt64 = 16
      static let socket = 41
      static let connect = 42
      static let recvmsg = 47
      static let wait4 = 61
      static let openat = 257
    }
  }
#endif
