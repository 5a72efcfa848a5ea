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
      let text = try ProcFile.readLine("/proc/\(task.id)/syscall")
      if text.first != UInt8(ascii: "r") {
        guard let call = BlockedCall(parsing: text) else { throw .invalidArgument }
        self = call
        return
      }
      if attempt < 50 { sched_yield() } else { usleep(100) }
    }
    throw .invalidArgument
  }

  private static let attempts = 2_000

  /// Parses "number six-arguments stack-pointer program-counter", all but the first with 0x before
  /// them; nil for a thread that runs ("running") or sleeps outside of a call (-1). By bytes, because
  /// each register access of a client comes here.
  init?(parsing text: some Sequence<UInt8>) {
    var words: [UInt64] = []
    words.reserveCapacity(9)
    var word: UInt64?
    var base: UInt64 = 10
    for byte in text {
      let digit: UInt64
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = UInt64(byte - UInt8(ascii: "0"))
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = UInt64(byte - UInt8(ascii: "a") + 10)
      case UInt8(ascii: "x") where word == 0:
        base = 16
        continue
      case UInt8(ascii: " "), UInt8(ascii: "\n"):
        if let word { words.append(word) }
        (word, base) = (nil, 10)
        continue
      default: return nil
      }
      guard digit < base else { return nil }
      word = (word ?? 0) &* base &+ digit
    }
    if let word { words.append(word) }
    guard words.count == 9, let number = Int(exactly: words[0]) else { return nil }
    self.number = number
    arguments = Array(words[1...6])
    programCounter = words[8]
  }
}
