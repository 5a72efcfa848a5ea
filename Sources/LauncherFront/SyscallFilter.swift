// The table of trapped calls as a classic BPF program over struct seccomp_data:
//
//   load arch; for each architecture: if it is not this one, skip its section
//     load number; for each call: if it is not this one, skip its body
//       body: for each condition: load the word, compare, and allow when it does not hold; notify
//     allow
//   allow                        an ABI we do not know is none of our business
//
// Every body ends with a return, so that a number is compared only until it is found. Calls that
// return "allow" whatever their arguments are found in the kernel's own cache, without the program.

internal import CLinux

struct SyscallFilter {
  private(set) var instructions: [sock_filter] = []

  init(_ traps: [Trap] = Trap.table) {
    load(Offset.architecture)
    for architecture in Architecture.allCases {
      let section = Self.section(traps, on: architecture)
      // A section is longer than a conditional jump reaches, so the test jumps over a long jump.
      jump(Code.equal, architecture.auditValue, ifTrue: 1, ifFalse: 0)
      emit(Code.always, UInt32(section.count))
      instructions += section
    }
    answer(CLinux_SECCOMP_RET_ALLOW)
  }

  private init(empty: Void) {}

  private static func section(_ traps: [Trap], on architecture: Architecture) -> [sock_filter] {
    var section = SyscallFilter(empty: ())
    section.load(Offset.number)
    for trap in traps {
      guard let number = trap.number(on: architecture) else { continue }
      let body = body(of: trap, on: architecture)
      section.jump(Code.equal, number, ifTrue: 0, ifFalse: UInt8(body.count))
      section.instructions += body
    }
    section.answer(CLinux_SECCOMP_RET_ALLOW)
    return section.instructions
  }

  private static func body(of trap: Trap, on architecture: Architecture) -> [sock_filter] {
    var body = SyscallFilter(empty: ())
    for condition in trap.conditions { body.require(condition, on: architecture) }
    body.answer(CLinux_SECCOMP_RET_USER_NOTIF)
    return body.instructions
  }

  /// Falls through when `condition` holds, else allows the call.
  private mutating func require(_ condition: Condition, on architecture: Architecture) {
    switch condition {
    case .masked(let argument, let mask, let value):
      load(Offset.lowerWord(of: argument))
      emit(Code.and, mask)
      jump(Code.equal, value, ifTrue: 1, ifFalse: 0)
      answer(CLinux_SECCOMP_RET_ALLOW)
    case .atLeast(let argument, let minimum):
      load(Offset.lowerWord(of: argument))
      jump(Code.greaterOrEqual, minimum, ifTrue: 1, ifFalse: 0)
      answer(CLinux_SECCOMP_RET_ALLOW)
    case .regionOffset(let argument):
      // A 32-bit ABI passes a 64-bit offset as two arguments, lower word first.
      let upper =
        architecture == .i386 ? Offset.lowerWord(of: argument + 1) : Offset.upperWord(of: argument)
      load(upper)
      jump(Code.anyBit, ~RegionOffset.last, ifTrue: 1, ifFalse: 0)
      jump(Code.greaterOrEqual, RegionOffset.stride, ifTrue: 1, ifFalse: 0)
      answer(CLinux_SECCOMP_RET_ALLOW)
    }
  }

  private mutating func load(_ offset: UInt32) { emit(Code.load, offset) }
  private mutating func answer(_ action: UInt32) { emit(Code.answer, action) }

  private mutating func emit(_ code: UInt16, _ operand: UInt32) {
    instructions.append(sock_filter(code: code, jt: 0, jf: 0, k: operand))
  }

  private mutating func jump(_ code: UInt16, _ operand: UInt32, ifTrue: UInt8, ifFalse: UInt8) {
    instructions.append(sock_filter(code: code, jt: ifTrue, jf: ifFalse, k: operand))
  }
}

/// BPF_…: class, size or operation, and source in one number.
private enum Code {
  static let load = UInt16(BPF_LD | BPF_W | BPF_ABS)
  static let and = UInt16(BPF_ALU | BPF_AND | BPF_K)
  static let equal = UInt16(BPF_JMP | BPF_JEQ | BPF_K)
  static let greaterOrEqual = UInt16(BPF_JMP | BPF_JGE | BPF_K)
  static let anyBit = UInt16(BPF_JMP | BPF_JSET | BPF_K)
  static let always = UInt16(BPF_JMP | BPF_JA)
  static let answer = UInt16(BPF_RET | BPF_K)
}

/// Offsets in struct seccomp_data. All supported machines are little-endian.
private enum Offset {
  static let number: UInt32 = 0
  static let architecture: UInt32 = 4
  static func lowerWord(of argument: Int) -> UInt32 { 16 + 8 * UInt32(argument) }
  static func upperWord(of argument: Int) -> UInt32 { lowerWord(of: argument) + 4 }
}
