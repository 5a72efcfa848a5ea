// SPDX-License-Identifier: Apache-2.0

// A small interpreter of classic BPF runs the filter, so that each row of the table is tested on
// all architectures, not only on this machine's.

internal import CLinux
internal import Testing

@testable import LauncherFront

private let table = Trap.table + Trap.exits
private let filter = SyscallFilter(table).instructions
private let filterWithVirtualFiles = SyscallFilter(Trap.tableWithVirtualFiles).instructions

/// The value that the filter returns for a call.
private func result(
  _ number: UInt32, _ architecture: UInt32, _ arguments: [UInt64] = [],
  by filter: [sock_filter] = filter
) -> UInt32 {
  var data: [UInt32] = [number, architecture, 0, 0]
  for index in 0..<6 {
    let argument = index < arguments.count ? arguments[index] : 0
    data += [UInt32(truncatingIfNeeded: argument), UInt32(argument >> 32)]
  }
  var accumulator: UInt32 = 0
  var position = 0
  while true {
    let instruction = filter[position]
    position += 1
    let (isTrue, isFalse) = (Int(instruction.jt), Int(instruction.jf))
    switch Int32(instruction.code) {
    case BPF_LD | BPF_W | BPF_ABS: accumulator = data[Int(instruction.k) / 4]
    case BPF_ALU | BPF_AND | BPF_K: accumulator &= instruction.k
    case BPF_JMP | BPF_JA: position += Int(instruction.k)
    case BPF_JMP | BPF_JEQ | BPF_K: position += accumulator == instruction.k ? isTrue : isFalse
    case BPF_JMP | BPF_JGE | BPF_K: position += accumulator >= instruction.k ? isTrue : isFalse
    case BPF_RET | BPF_K: return instruction.k
    default:
      Issue.record("instruction \(instruction.code)")
      return 0
    }
  }
}

private func isTrapped(
  _ systemCall: SystemCall, on architecture: Architecture, _ arguments: [UInt64],
  by filter: [sock_filter] = filter
) throws -> Bool {
  let trap = try #require(table.first { $0.systemCall == systemCall })
  let number = try #require(trap.number(on: architecture))
  return result(number, architecture.auditValue, arguments, by: filter)
    == CLinux_SECCOMP_RET_USER_NOTIF
}

@Suite struct SyscallFilterTests {
  @Test(arguments: Architecture.allCases)
  func callsWithoutConditionsAreAlwaysTrapped(_ architecture: Architecture) {
    for trap in table where trap.cases == [[]] {
      guard let number = trap.number(on: architecture) else { continue }
      #expect(result(number, architecture.auditValue) == CLinux_SECCOMP_RET_USER_NOTIF)
    }
  }

  @Test(arguments: Architecture.allCases)
  func numbersOutsideTheTablePass(_ architecture: Architecture) {
    let numbers = Set(table.compactMap { $0.number(on: architecture) })
    for number in UInt32(0)..<600 where !numbers.contains(number) {
      #expect(result(number, architecture.auditValue) == CLinux_SECCOMP_RET_ALLOW)
    }
  }

  @Test func eachNumberStandsForOneCall() {
    for architecture in Architecture.allCases {
      let numbers = table.compactMap { $0.number(on: architecture) }
      #expect(Set(numbers).count == numbers.count)
      for trap in table {
        guard let number = trap.number(on: architecture) else { continue }
        #expect(Trap.systemCall(number: number, on: architecture) == trap.systemCall)
      }
    }
  }

  /// BPF_MAXINSNS.
  @Test func theFilterIsNotTooLongForTheKernel() {
    #expect(filter.count < 4096)
  }

  @Test func unknownArchitecturesPass() {
    #expect(result(16, 0x1234, [3, 0x3b80]) == CLinux_SECCOMP_RET_ALLOW)
    // x32: x86-64's audit value, numbers with bit 30.
    #expect(
      result(0x4000_0000 | 514, CLinux_AUDIT_ARCH_X86_64, [3, 0x3b80]) == CLinux_SECCOMP_RET_ALLOW)
  }

  @Test(arguments: Architecture.allCases)
  func ioctlsWithVFIOsTypeOrIommufdsNumbersAreTrapped(_ architecture: Architecture) throws {
    let trapped: [UInt64] = [
      0x3b80, 0x3b64, 0xc008_3b80, 0xffff_ffff_0000_3b80, 0x3a80, 0x80, 0x5401, 0x541b, 0x5460,
      0x8008_6601,
    ]
    let untrapped: [UInt64] = [
      0x5402, 0x5421, 0xae80, 0xaea2, 0x8915, 0xc040_64a0, 0x8004_4590, 0x3c3b, 0,
    ]
    for request in trapped { #expect(try isTrapped(.ioctl, on: architecture, [3, request])) }
    for request in untrapped {
      #expect(try !isTrapped(.ioctl, on: architecture, [3, request]))
      #expect(try isTrapped(.ioctl, on: architecture, [960, request]))
    }
  }

  @Test func allOpensAreTrapped() throws {
    for flags: UInt64 in [0, 0o2, 0o101, 0o102, 0o200000, 0o2004002, 0o10000002, 0o20200002] {
      #expect(try isTrapped(.open, on: .x8664, [0, flags]))
      #expect(try isTrapped(.openat, on: .x8664, [0, 0, flags]))
      #expect(try isTrapped(.openat, on: .i386, [0, 0, flags]))
    }
  }

  @Test func transfersAtOffsetsOfRegionsAreTrapped() throws {
    for index: UInt64 in 0..<255 {
      let start = (index + 1) << 40
      for offset in [start, start + 4, start + (1 << 40) - 8] {
        #expect(try isTrapped(.pread, on: .x8664, [3, 0, 8, offset]))
        #expect(try isTrapped(.preadv2, on: .aarch64, [3, 0, 1, offset, 0, 0]))
        #expect(
          try isTrapped(.pwrite, on: .i386, [3, 0, 8, offset & 0xffff_ffff, offset >> 32]))
      }
    }
    #expect(try isTrapped(.pread, on: .x8664, [3, 0, 8, 0]))
    for offset: UInt64 in [8, 1 << 32 + 8, (1 << 40) - 1, 256 << 40 + 8, .max] {
      #expect(try !isTrapped(.pread, on: .x8664, [3, 0, 8, offset]))
      #expect(try !isTrapped(.pwritev, on: .i386, [3, 0, 1, offset & 0xffff_ffff, offset >> 32]))
    }
  }

  @Test(arguments: Architecture.allCases)
  func transfersOnQueueDescriptorsAreTrapped(_ architecture: Architecture) throws {
    for systemCall in [SystemCall.read, .readv, .write, .writev, .getdents64, .shutdown] {
      #expect(try isTrapped(systemCall, on: architecture, [960, 0, 1]))
      #expect(try !isTrapped(systemCall, on: architecture, [959, 0, 1]))
    }
    #expect(try isTrapped(.lseek, on: architecture, [3, 0, 0]))
  }

  @Test(arguments: Architecture.allCases)
  func fewCommandsOfFcntlAreTrapped(_ architecture: Architecture) throws {
    // F_GETFL, F_SETLKW, F_OFD_SETLK, F_GET_SEALS; F_SETFL with O_DIRECT.
    let direct = UInt64(OpenModel.direct)
    for command: UInt64 in [3, 7, 37, 1034] {
      #expect(try isTrapped(.fcntl, on: architecture, [3, command, 0]))
    }
    #expect(try isTrapped(.fcntl, on: architecture, [3, 4, direct | 2]))
    // F_SETFL with O_NONBLOCK, F_DUPFD, F_GETFD, F_SETFD.
    #expect(try !isTrapped(.fcntl, on: architecture, [3, 4, 0o4002]))
    for command: UInt64 in [0, 1, 2] {
      #expect(try !isTrapped(.fcntl, on: architecture, [960, command, direct]))
    }
  }

  /// preadv2(2) with offset -1 reads at the file position.
  @Test(arguments: Architecture.allCases)
  func vectoredTransfersAtThePositionOfAQueueAreTrapped(_ architecture: Architecture) throws {
    let position: [UInt64] =
      architecture == .i386 ? [0xffff_ffff, 0xffff_ffff] : [.max, .max]
    for systemCall in [SystemCall.preadv2, .pwritev2] {
      #expect(try isTrapped(systemCall, on: architecture, [960, 0, 1] + position))
      #expect(try !isTrapped(systemCall, on: architecture, [959, 0, 1] + position))
      #expect(try !isTrapped(systemCall, on: architecture, [960, 0, 1, 4096, 0]))
    }
  }

  @Test(arguments: Architecture.allCases)
  func virtualFilesTrapAllOpensAndAllTransfersOnHighDescriptors(_ architecture: Architecture) throws
  {
    for flags: UInt64 in [0, 0o1, 0o2, 0o200000] {
      #expect(
        try isTrapped(.openat, on: architecture, [0, 0, flags], by: filterWithVirtualFiles))
    }
    for systemCall in [SystemCall.pread, .preadv2, .pwrite, .pwritev] {
      #expect(
        try isTrapped(systemCall, on: architecture, [960, 0, 8, 8, 0], by: filterWithVirtualFiles))
      #expect(
        try !isTrapped(systemCall, on: architecture, [959, 0, 8, 8, 0], by: filterWithVirtualFiles))
      #expect(try !isTrapped(systemCall, on: architecture, [960, 0, 8, 8, 0]))
    }
    #expect(try isTrapped(.read, on: architecture, [960, 0, 1], by: filterWithVirtualFiles))
    #expect(try !isTrapped(.read, on: architecture, [959, 0, 1], by: filterWithVirtualFiles))
  }

  @Test(arguments: Architecture.allCases)
  func mappingsOfFilesAreTrapped(_ architecture: Architecture) throws {
    for flags: UInt64 in [0x01, 0x02, 0x03, 0x11, 0x8002] {
      #expect(try isTrapped(.mmap, on: architecture, [0, 4096, 1, flags, 3, 0]))
    }
    // Anonymous mappings, and mappings of libraries by the dynamic linker.
    for flags: UInt64 in [0x21, 0x22, 0x20022, 0x802, 0x812] {
      #expect(try !isTrapped(.mmap, on: architecture, [0, 4096, 1, flags, 3, 0]))
    }
  }
}
