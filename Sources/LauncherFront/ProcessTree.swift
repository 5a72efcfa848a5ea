// SPDX-License-Identifier: Apache-2.0

// PROGRAM and the processes that it starts. The launcher forwards signals to PROGRAM, and stops and
// ends as PROGRAM does.
//
// PROGRAM stays in the launcher's process group, so that the terminal treats both as one job. A
// signal of the terminal reaches PROGRAM directly and is not forwarded; a signal that a process
// sends to the launcher is. When PROGRAM stops, the launcher stops too, so that the shell reports a
// stopped job. Orphans become children of the launcher (PR_SET_CHILD_SUBREAPER), so that the
// launcher can wait for the last one, and Yama treats them as descendants.

internal import CLinux
internal import Glibc
internal import Host
internal import Logging
internal import SystemPackage

/// The way in which PROGRAM ended.
package enum ProgramEnd: Sendable, Equatable {
  case exited(code: Int32)
  case killed(signal: Int32)
}

extension ProgramEnd {
  /// Ends this process as the program ended: with the same exit status, or by the same signal.
  package func endProcessLikewise() -> Never {
    guard case .killed(let signal) = self else {
      if case .exited(let code) = self { exit(code) }
      exit(0)
    }
    // No core dump of this process: the kernel has written the program's.
    var none = rlimit(rlim_cur: 0, rlim_max: 0)
    setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &none)
    Glibc.signal(signal, SIG_DFL)
    var mask = sigset_t()
    sigemptyset(&mask)
    sigaddset(&mask, signal)
    sigprocmask(SIG_UNBLOCK, &mask, nil)
    kill(getpid(), signal)
    exit(128 + signal)
  }
}

struct ProcessTree {
  private let program: Int32
  private let killsChildren: Bool
  private let logger: Logger
  private var end: ProgramEnd?

  /// The signals that are forwarded. They are blocked in all threads of the launcher.
  private static let forwarded: [Int32] = [
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH, SIGCONT, SIGTSTP,
    SIGTTIN, SIGTTOU,
  ]

  /// Blocks the signals that the launcher waits for, in this thread and in threads started later.
  /// - Returns: the signal mask from before, for PROGRAM.
  static func blockSignals() -> sigset_t {
    var mask = waited
    // Writing a trace to a closed pipe must not end the supervisor.
    sigaddset(&mask, SIGPIPE)
    var before = sigset_t()
    pthread_sigmask(SIG_BLOCK, &mask, &before)
    return before
  }

  private static var waited: sigset_t {
    var mask = sigset_t()
    sigemptyset(&mask)
    for signal in forwarded + [SIGCHLD] { sigaddset(&mask, signal) }
    return mask
  }

  init(program: Int32, killsChildren: Bool, logger: Logger) {
    self.program = program
    self.killsChildren = killsChildren
    self.logger = logger
  }

  /// Forwards signals until all processes of the tree have ended.
  /// - Returns: the end of PROGRAM.
  mutating func wait() -> ProgramEnd {
    ignoreStops()
    Self.watchStops(of: program)
    var mask = Self.waited
    while true {
      if !reap() { return end ?? .exited(code: 0) }
      var information = siginfo_t()
      let signal = sigwaitinfo(&mask, &information)
      if signal > 0, signal != SIGCHLD { forward(signal, information) }
    }
  }

  private func forward(_ signal: Int32, _ information: siginfo_t) {
    // A positive si_code is SI_KERNEL: the terminal sent the signal, to PROGRAM as well.
    guard information.si_code <= 0, end == nil else { return }
    kill(program, signal)
  }

  // MARK: Stops

  /// Asks for no SIGCHLD when a child stops. An agent stops at each pin, and the main thread would
  /// wake up for each of them.
  private func ignoreStops() {
    var action = sigaction()
    action.__sigaction_handler.sa_handler = SIG_DFL
    action.sa_flags = SA_NOCLDSTOP
    sigaction(SIGCHLD, &action, nil)
  }

  /// Starts a thread that stops this process whenever PROGRAM stops. Its waitid(2) names PROGRAM,
  /// so stops of other tasks do not wake the thread (kernel: child_wait_callback()).
  private static func watchStops(of program: Int32) {
    startThread(named: "program-stops", stackSize: 64 << 10) {
      while true {
        var information = siginfo_t()
        let result = waitid(P_PID, id_t(program), &information, WSTOPPED | WNOWAIT)
        if result != 0, errno != EINTR { return }
        guard result == 0 else { continue }
        // Stops of a thread that is traced are not for this thread.
        let hasStopped = TracingGate.shared.withLock {
          var taken = siginfo_t()
          return waitid(P_PID, id_t(program), &taken, WSTOPPED | WNOHANG) == 0
            && CLinux_siginfo_pid(&taken) == program
        }
        if hasStopped { raise(SIGSTOP) }
      }
    }
  }

  /// Waits for all children that have ended, without blocking.
  /// - Returns: false when no child is left.
  private mutating func reap() -> Bool {
    while true {
      var information = siginfo_t()
      // __WNOTHREAD: ends of agents are reported to the threads that trace them.
      let options = WEXITED | WNOHANG | Self.ofThisThread
      let result = TracingGate.shared.withLock { waitid(P_ALL, 0, &information, options) }
      guard result == 0 else {
        if errno == EINTR { continue }
        return false
      }
      let child = CLinux_siginfo_pid(&information)
      if child == 0 { return true }
      let status = CLinux_siginfo_status(&information)
      switch Int32(information.si_code) {
      case Int32(CLD_EXITED): childEnded(child, .exited(code: status))
      case Int32(CLD_KILLED), Int32(CLD_DUMPED): childEnded(child, .killed(signal: status))
      default: break
      }
    }
  }

  /// __WNOTHREAD
  private static let ofThisThread: Int32 = 0x2000_0000

  private mutating func childEnded(_ child: Int32, _ how: ProgramEnd) {
    if child == program {
      end = how
      logger.info("the program ended", metadata: ["end": "\(how)"])
    }
    if end != nil, killsChildren { Self.killChildren() }
  }

  /// Kills all children. Their own children become children of the launcher, and are killed when
  /// the launcher handles the end of their parents.
  private static func killChildren() {
    guard let list = try? ProcFile.read("/proc/thread-self/children") else { return }
    for child in list.split(separator: " ") {
      if let child = Int32(child) { kill(child, SIGKILL) }
    }
  }
}
