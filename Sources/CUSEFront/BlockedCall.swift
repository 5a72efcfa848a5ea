internal import Glibc
internal import Host
internal import SystemPackage

/// The system call in which a thread sleeps, as /proc/<tid>/syscall shows it.
struct BlockedCall: Equatable {
  let number: Int
  /// Six raw argument registers.
  let arguments: [UInt64]
  /// Where the thread will go on.
  let programCounter: UInt64

  /// - Throws: `.notPermitted` or `.permissionDenied` without ptrace rights, `.noSuchProcess`,
  ///   `.invalidArgument` when the thread does not sleep in a call.
  init(of task: HostTask) throws(Errno) {
    // A thread that has sent its request but not yet gone to sleep shows as running.
    for attempt in 0..<Self.attempts {
      let text = try ProcFile.read("/proc/\(task.id)/syscall")
      if !text.hasPrefix("running") {
        guard let call = BlockedCall(parsing: text) else { throw .invalidArgument }
        self = call
        return
      }
      if attempt < 50 { sched_yield() } else { usleep(100) }
    }
    throw .invalidArgument
  }

  private static let attempts = 2_000

  /// Parses "number six-arguments stack-pointer program-counter"; nil for a thread that runs or
  /// sleeps outside of a call.
  init?(parsing text: String) {
    let words = ProcFile.words(of: text[...].utf8)
    guard words.count == 9, let number = Int(words[0]) else { return nil }
    let registers = words.dropFirst().compactMap { UInt64($0.dropFirst(2), radix: 16) }
    guard registers.count == 8 else { return nil }
    self.number = number
    arguments = Array(registers[..<6])
    programCounter = registers[7]
  }

  /// The length of the buffer of a read(2).
  var readLength: Int? {
    #if arch(x86_64)
      let isRead = number == 0 || number == 3  // asm/unistd_64.h, asm/unistd_32.h
    #else
      let isRead = number == 63  // asm-generic/unistd.h
    #endif
    return isRead ? Int(exactly: arguments[2]) : nil
  }
}
