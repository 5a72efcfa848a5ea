// A client's thread, held by ptrace at the end of its ioctl, in which system calls are made.
//
// All signals are blocked meanwhile, so that they stay pending with their siginfo. What a thread
// that is killed leaves is always reaped: an unreaped one would be a zombie that even its parent
// cannot remove.

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage

#if arch(x86_64)
  final class TracedThread {
    let task: HostTask
    private var isGone = false
    private var isStopped = false
    /// Where the thread goes on when its ioctl returns.
    private let returnAddress: UInt64
    private var saved = user_regs_struct()
    private var savedMask: UInt64 = 0

    /// Seizes the thread, which sleeps in an ioctl: it will stop after that, and not before.
    /// - Throws: `.resourceBusy` for a thread with a debugger, `.notSupported` for one that may not
    ///   be traced, or whose machine code is not known here.
    init(seizing task: HostTask) throws(Errno) {
      self.task = task
      returnAddress = try Self.returnAddress(of: task)
      try Self.seize(task)
      if CLinux_ptrace(Int32(PTRACE_INTERRUPT.rawValue), task.id, 0, 0) < 0 { reap() }
    }

    /// Waits until the thread stops, once its ioctl was answered.
    ///
    /// If the server was killed just before the thread was seized, the ioctl has ended without its
    /// answer, and the thread may stop anywhere. It is let go untouched.
    /// - Throws: `.noSuchProcess` then, or when it ends instead.
    func stop() throws(Errno) {
      guard !isGone else { throw .noSuchProcess }
      guard !isStopped else { return }
      guard waitForStop() != nil else { throw .noSuchProcess }
      isStopped = true
      try ptrace(PTRACE_GETREGS, data: &saved)
      guard saved.rip == returnAddress, saved.orig_rax == SYS.ioctl else {
        detach()
        isGone = true
        throw .noSuchProcess
      }
      try ptrace(PTRACE_GETSIGMASK, address: 8, data: &savedMask)
      var everything = UInt64.max
      try ptrace(PTRACE_SETSIGMASK, address: 8, data: &everything)
    }

    /// Opens `path` for reading and writing, close-on-exec.
    func open(_ path: String) throws(Errno) -> Int32 {
      let name = Array(path.utf8) + [0]
      return try withScratch(name) { address throws(Errno) in
        let flags = UInt64(O_RDWR | O_CLOEXEC)
        return Int32(try call(SYS.openat, UInt64(bitPattern: -100), address, flags))
      }
    }

    func close(_ number: Int32) {
      do throws(Errno) { _ = try call(SYS.close, UInt64(number)) } catch { return }
    }

    /// Lets the thread go on, its ioctl returning `result`, a value or -errno.
    func finish(returning result: Int32) {
      do throws(Errno) {
        try stop()
        var registers = saved
        registers.rax = UInt64(bitPattern: Int64(result))
        registers.orig_rax = UInt64.max  // not in a system call: nothing to restart
        try ptrace(PTRACE_SETREGS, data: &registers)
        try ptrace(PTRACE_SETSIGMASK, address: 8, data: &savedMask)
      } catch {
        return
      }
      detach()
    }

    private func detach() {
      if CLinux_ptrace(Int32(PTRACE_DETACH.rawValue), task.id, 0, 0) < 0 { reap() }
    }

    /// Makes one system call in the thread.
    /// - Throws: the call's errno; `.noSuchProcess` when the thread is gone.
    func call(_ number: Int, _ arguments: UInt64...) throws(Errno) -> Int {
      try stop()
      var registers = saved
      let a = arguments + Array(repeating: 0, count: max(0, 6 - arguments.count))
      (registers.rdi, registers.rsi, registers.rdx) = (a[0], a[1], a[2])
      (registers.r10, registers.r8, registers.r9) = (a[3], a[4], a[5])
      registers.rip = saved.rip &- 2
      registers.orig_rax = UInt64.max
      registers.rax = UInt64(number)
      // A stop signal can interrupt a call although all others are blocked; the kernel would then
      // restart it, which here is done by hand.
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

    /// Puts `bytes` on the thread's stack, below what compiled code may use, and takes them away
    /// again. Stacks of coroutines are small: whoever calls keeps it short.
    func withScratch<Value>(
      _ bytes: [UInt8], _ body: (_ address: UInt64) throws(Errno) -> Value
    ) throws(Errno) -> Value {
      try stop()
      let address = scratchAddress(bytes.count)
      let before = try read(bytes.count, at: address)
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

    func read(_ count: Int, at address: UInt64) throws(Errno) -> [UInt8] {
      try Self.read(count, at: address, of: task)
    }

    /// Where scratch of `count` bytes lies: 128 bytes below the stack pointer belong to the code.
    func scratchAddress(_ count: Int) -> UInt64 {
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

    /// The two bytes before the program counter must be `syscall`, to be executed again. The thread
    /// still sleeps in the ioctl; /proc shows where it will continue.
    private static func returnAddress(of task: HostTask) throws(Errno) -> UInt64 {
      let (address, instruction): (UInt64, [UInt8])
      do throws(Errno) {
        address = try BlockedCall(of: task).programCounter
        instruction = try read(2, at: address &- 2, of: task)
      } catch {
        throw .notSupported
      }
      guard instruction == [0x0f, 0x05] else { throw .notSupported }
      return address
    }

    private static func seize(_ task: HostTask) throws(Errno) {
      let seize = Int32(PTRACE_SEIZE.rawValue)
      let marked = UInt64(PTRACE_O_TRACESYSGOOD.rawValue)
      // The client's own seccomp filter must not see calls it did not make; needs CAP_SYS_ADMIN.
      let suspended = marked | 1 << 21  // PTRACE_O_SUSPEND_SECCOMP
      if CLinux_ptrace(seize, task.id, 0, suspended) == 0 { return }
      if CLinux_ptrace(seize, task.id, 0, marked) == 0 { return }
      let status = (try? ProcFile.read("/proc/\(task.id)/status")) ?? ""
      let tracer = ProcFile.field("TracerPid", of: status) ?? "0"
      throw tracer == "0" ? .notSupported : .resourceBusy
    }

    private func ptrace<T>(
      _ request: __ptrace_request, address: UInt64 = 0, data: inout T
    ) throws(Errno) {
      let failed = withUnsafeMutableBytes(of: &data) { bytes in
        let pointer = UInt64(UInt(bitPattern: bytes.baseAddress))
        return CLinux_ptrace(Int32(request.rawValue), task.id, address, pointer) < 0
      }
      if failed {
        reap()
        throw .noSuchProcess
      }
    }

    private func runToSystemCallStop() throws(Errno) {
      var signal: UInt64 = 0
      while true {
        guard CLinux_ptrace(Int32(PTRACE_SYSCALL.rawValue), task.id, 0, signal) == 0 else {
          reap()
          throw .noSuchProcess
        }
        guard let status = waitForStop() else { throw .noSuchProcess }
        let (event, stop) = (status >> 16, status >> 8 & 0xff)
        if event == 0 && stop == SIGTRAP | 0x80 { return }
        // Only SIGSTOP still comes through. It is passed on; the stop it causes is an event.
        signal = event == 0 ? UInt64(stop) : 0
      }
    }

    /// Waits until the thread stops; nil, and it is gone, when it ends instead.
    private func waitForStop() -> Int32? {
      let wall: Int32 = 0x4000_0000  // __WALL: also threads that are no group leaders
      var status: Int32 = 0
      while true {
        let result = waitpid(task.id, &status, wall)
        if result < 0 && errno == EINTR { continue }
        if result == task.id && status & 0xff == 0x7f { return status }
        isGone = true
        return nil
      }
    }

    /// ptrace says that the thread is not there: it is being killed. Waits for its end.
    private func reap() {
      while !isGone { _ = waitForStop() }
    }

    private enum SYS {
      static let close = 3
      static let ioctl: UInt64 = 16
      static let openat = 257
    }
  }
#endif
