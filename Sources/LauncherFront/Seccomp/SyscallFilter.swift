// SPDX-License-Identifier: Apache-2.0

// The table of trapped calls (TrapTable.swift) as a classic BPF program over struct seccomp_data:
//
//   load arch; for each architecture: if it is not this one, skip its section
//     load number; for each call: if it is not this one, skip its body
//       body: for each condition: load the word, compare, and allow when it does not hold; notify
//     allow
//   allow                        an unknown ABI is not served
//
// Each body ends with a return, so that no comparison follows the matching one. The kernel caches
// the calls for which the program returns "allow" without loading an argument, and does not run the
// program for them (seccomp_cache_check_allow()).

internal import CLinux
internal import UAPI

struct SyscallFilter {
  private(set) var instructions: [sock_filter] = []

  init(_ traps: [Trap]) {
    load(Offset.architecture)
    for architecture in Architecture.allCases {
      let section = Self.section(traps, on: architecture)
      // A conditional jump reaches 255 instructions, fewer than a section has. So the test skips an
      // unconditional jump, which reaches further.
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

  /// The cases one after the other, then "allow".
  private static func body(of trap: Trap, on architecture: Architecture) -> [sock_filter] {
    var body = SyscallFilter(empty: ())
    for conditions in trap.cases {
      // Built from the end, because a test must know the distance to the next case.
      var rest = [sock_filter(code: Code.answer, jt: 0, jf: 0, k: CLinux_SECCOMP_RET_USER_NOTIF)]
      for condition in conditions.reversed() {
        var test = SyscallFilter(empty: ())
        test.require(condition, on: architecture, orSkip: UInt8(rest.count))
        rest = test.instructions + rest
      }
      body.instructions += rest
    }
    // A case without conditions always returns, so no instruction after it is reached.
    if !trap.cases.contains(where: \.isEmpty) { body.answer(CLinux_SECCOMP_RET_ALLOW) }
    return body.instructions
  }

  /// Appends a test that skips the `count` instructions after it unless `condition` holds.
  private mutating func require(
    _ condition: ArgumentCondition, on architecture: Architecture, orSkip count: UInt8
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

  /// The upper 32 bits of the offsets of the 255 regions. The lower bits cannot decide, because a
  /// region may be larger than 4 GiB.
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

/// BPF_… operation codes: class, size or operation, and source in one number.
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
