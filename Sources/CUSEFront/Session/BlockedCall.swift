// SPDX-License-Identifier: Apache-2.0

internal import FrontEnd
internal import Glibc
internal import Host
internal import SystemPackage

/// The system call in which a thread is blocked, as /proc/<tid>/syscall shows it.
struct BlockedCall: Equatable {
  let number: Int
  /// The six raw argument registers.
  let arguments: [UInt64]
  /// The address at which the thread continues.
  let programCounter: UInt64

  /// Reads the call of `task`, which has sent a message to this server.
  /// - Throws: `.notPermitted` or `.permissionDenied` without ptrace rights, `.noSuchProcess`,
  ///   `.invalidArgument` when the thread is not blocked in a call.
  init(of task: HostTask) throws(Errno) {
    // /proc shows "running" for a thread that has sent its message and does not sleep yet.
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

  /// Parses "number six-arguments stack-pointer program-counter", where all but the number begin
  /// with 0x. Returns `nil` for a thread that runs ("running") or sleeps outside of a call (-1).
  /// Parses bytes and not characters, because each register access of a client calls this.
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

extension BlockedCall {
  /// The call as a read or write. `nil` for other calls, whose position in the file cannot be known
  /// (io_uring, splice).
  var transfer: TransferCall? {
    guard let form = Self.transferForms[number] else { return nil }
    return TransferCall(form) { arguments[$0] }
  }

  #if arch(x86_64)
    // asm/unistd_64.h, then asm/unistd_32.h. /proc does not show which of the two the caller used,
    // but the numbers do not collide: the 64-bit call with the number of one of these 32-bit calls
    // is no call that can be blocked in a read or write of one of our nodes, and the reverse.
    private static let transferForms: [Int: TransferCall.Form] = [
      0: .init(position: .file), 1: .init(position: .file),
      17: .init(position: .argument), 18: .init(position: .argument),
      19: .init(position: .file, isVector: true), 20: .init(position: .file, isVector: true),
      295: .init(position: .argument, isVector: true),
      296: .init(position: .argument, isVector: true),
      327: .init(position: .argumentOrFile, isVector: true),
      328: .init(position: .argumentOrFile, isVector: true),
      3: .init(position: .file, wordSize: 4), 4: .init(position: .file, wordSize: 4),
      145: .init(position: .file, isVector: true, wordSize: 4),
      146: .init(position: .file, isVector: true, wordSize: 4),
      180: .init(position: .argument, wordSize: 4), 181: .init(position: .argument, wordSize: 4),
      333: .init(position: .argument, isVector: true, wordSize: 4),
      334: .init(position: .argument, isVector: true, wordSize: 4),
    ]
  #else
    // asm-generic/unistd.h
    private static let transferForms: [Int: TransferCall.Form] = [
      63: .init(position: .file), 64: .init(position: .file),
      65: .init(position: .file, isVector: true), 66: .init(position: .file, isVector: true),
      67: .init(position: .argument), 68: .init(position: .argument),
      69: .init(position: .argument, isVector: true),
      70: .init(position: .argument, isVector: true),
      286: .init(position: .argumentOrFile, isVector: true),
      287: .init(position: .argumentOrFile, isVector: true),
    ]
  #endif
}
