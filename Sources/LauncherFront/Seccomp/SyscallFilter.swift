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
internal import UAPI

struct SyscallFilter {
  private(set) var instructions: [sock_filter] = []

  init(_ traps: [Trap]) {
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

  /// Cases one after the other; the last return is "allow".
  private static func body(of trap: Trap, on architecture: Architecture) -> [sock_filter] {
    var body = SyscallFilter(empty: ())
    for conditions in trap.cases {
      // Built from its end, where the distance to the next case is known.
      var rest = [sock_filter(code: Code.answer, jt: 0, jf: 0, k: CLinux_SECCOMP_RET_USER_NOTIF)]
      for condition in conditions.reversed() {
        var test = SyscallFilter(empty: ())
        test.require(condition, on: architecture, orSkip: UInt8(rest.count))
        rest = test.instructions + rest
      }
      body.instructions += rest
    }
    // Behind a case without conditions nothing is reached.
    if !trap.cases.contains(where: \.isEmpty) { body.answer(CLinux_SECCOMP_RET_ALLOW) }
    return body.instructions
  }

  /// Falls through when `condition` holds, else skips `count` instructions behind the test.
  private mutating func require(
    _ condition: Condition, on architecture: Architecture, orSkip count: UInt8
  ) {
    switch condition {
    case .masked(let argument, let mask, let value):
      load(Offset.lowerWord(of: argument))
      emit(Code.and, mask)
      jump(Code.equal, value, ifTrue: 0, ifFalse: count)
    case .unlike(let argument, let mask, let value):
      load(Offset.lowerWord(of: argument))
      emit(Code.and, mask)
      jump(Code.equal, value, ifTrue: count, ifFalse: 0)
    case .atLeast(let argument, let minimum):
      load(Offset.lowerWord(of: argument))
      jump(Code.greaterOrEqual, minimum, ifTrue: 0, ifFalse: count)
    case .regionOffset(let argument):
      // A 32-bit ABI passes a 64-bit offset as two arguments, lower word first.
      let upper =
        architecture == .i386 ? Offset.lowerWord(of: argument + 1) : Offset.upperWord(of: argument)
      load(upper)
      jump(Code.greaterOrEqual, Self.firstRegion, ifTrue: 0, ifFalse: count + 1)
      jump(Code.greaterOrEqual, Self.endOfRegions, ifTrue: count, ifFalse: 0)
    }
  }

  /// The upper words of the offsets of 255 regions. A region may be larger than 4 GiB.
  private static let firstRegion = UInt32(RegionOffset.start(of: 0) >> 32)
  private static let endOfRegions = UInt32(RegionOffset.end >> 32)

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
