// SPDX-License-Identifier: Apache-2.0

extension Trap {
  /// The calls on descriptors that no program makes often, so that they are trapped for all files.
  static let descriptors: [Trap] = [
    // F_GETFL, F_SETFL with O_DIRECT, locks, F_SETLEASE, F_ADD_SEALS and F_GET_SEALS.
    Trap(systemCall: .fcntl, x8664: 72, i386: 221, aarch64: 25, cases: fileControls),
    Trap(systemCall: .fcntl, x8664: nil, i386: 55, aarch64: nil, cases: fileControls),
    Trap(systemCall: .flock, x8664: 73, i386: 143, aarch64: 32),
    Trap(systemCall: .fstat, x8664: 5, i386: 197, aarch64: 80),
    Trap(systemCall: .fallocate, x8664: 285, i386: 324, aarch64: 47),
    Trap(systemCall: .fchmod, x8664: 91, i386: 94, aarch64: 52),
    Trap(systemCall: .fchown, x8664: 93, i386: 95, aarch64: 55),
    Trap(systemCall: .fdatasync, x8664: 75, i386: 148, aarch64: 83),
    Trap(systemCall: .fgetxattr, x8664: 193, i386: 231, aarch64: 10),
    Trap(systemCall: .flistxattr, x8664: 196, i386: 234, aarch64: 13),
    Trap(systemCall: .fremovexattr, x8664: 199, i386: 237, aarch64: 16),
    Trap(systemCall: .fsetxattr, x8664: 190, i386: 228, aarch64: 7),
    Trap(systemCall: .fstatfs, x8664: 138, i386: nil, aarch64: 44),
    Trap(systemCall: .fsync, x8664: 74, i386: 118, aarch64: 82),
    Trap(systemCall: .ftruncate, x8664: 77, i386: 93, aarch64: 46),
    Trap(systemCall: .readahead, x8664: 187, i386: 225, aarch64: 213),
    Trap(systemCall: .syncFileRange, x8664: 277, i386: 314, aarch64: 84),
    Trap(systemCall: .copyFileRange, x8664: 326, i386: 377, aarch64: 285),
    // With requests to submit.
    Trap(
      systemCall: .ioUringEnter, x8664: 426, i386: 426, aarch64: 426,
      cases: [[.atLeast(1, minimum: 1)]]),
    // IORING_REGISTER_RING_FDS
    Trap(
      systemCall: .ioUringRegister, x8664: 427, i386: 427, aarch64: 427,
      cases: [[.masked(1, mask: 0x7fff_ffff, equals: 20)]]),
    Trap(systemCall: .ioSubmit, x8664: 209, i386: 248, aarch64: 2),
    Trap(systemCall: .sendfile, x8664: 40, i386: 187, aarch64: 71),
    Trap(systemCall: .splice, x8664: 275, i386: 313, aarch64: 76),
    // The same calls with wider arguments.
    Trap(systemCall: .fchown, x8664: nil, i386: 207, aarch64: nil),
    Trap(systemCall: .ftruncate, x8664: nil, i386: 194, aarch64: nil),
    Trap(systemCall: .sendfile, x8664: nil, i386: 239, aarch64: nil),
  ]

  /// The calls that are trapped for numbers from ``firstQueueDescriptor`` on: sockets are the
  /// stand-ins of queues, and directories of the tree have such numbers.
  static let highNumbers: [Trap] = [
    Trap(systemCall: .accept, x8664: 43, i386: nil, aarch64: 202, cases: highNumber),
    Trap(systemCall: .accept, x8664: 288, i386: 364, aarch64: 242, cases: highNumber),
    Trap(systemCall: .bind, x8664: 49, i386: 361, aarch64: 200, cases: highNumber),
    Trap(systemCall: .connect, x8664: 42, i386: 362, aarch64: 203, cases: highNumber),
    Trap(systemCall: .getpeername, x8664: 52, i386: 368, aarch64: 205, cases: highNumber),
    Trap(systemCall: .getsockname, x8664: 51, i386: 367, aarch64: 204, cases: highNumber),
    Trap(systemCall: .getsockopt, x8664: 55, i386: 365, aarch64: 209, cases: highNumber),
    Trap(systemCall: .listen, x8664: 50, i386: 363, aarch64: 201, cases: highNumber),
    Trap(systemCall: .recvfrom, x8664: 45, i386: 371, aarch64: 207, cases: highNumber),
    Trap(systemCall: .recvmmsg, x8664: 299, i386: 337, aarch64: 243, cases: highNumber),
    Trap(systemCall: .recvmsg, x8664: 47, i386: 372, aarch64: 212, cases: highNumber),
    Trap(systemCall: .sendmmsg, x8664: 307, i386: 345, aarch64: 269, cases: highNumber),
    Trap(systemCall: .sendmsg, x8664: 46, i386: 370, aarch64: 211, cases: highNumber),
    Trap(systemCall: .sendto, x8664: 44, i386: 369, aarch64: 206, cases: highNumber),
    Trap(systemCall: .setsockopt, x8664: 54, i386: 366, aarch64: 208, cases: highNumber),
    Trap(systemCall: .shutdown, x8664: 48, i386: 373, aarch64: 210, cases: highNumber),
    Trap(systemCall: .getdents64, x8664: 217, i386: 220, aarch64: 61, cases: highNumber),
  ]

  static let highNumber: [[ArgumentCondition]] = [
    [.atLeast(0, minimum: UInt32(firstQueueDescriptor))]
  ]

  private static let fileControls: [[ArgumentCondition]] = FileControl.allCases.map { control in
    let isControl = ArgumentCondition.masked(1, mask: .max, equals: control.rawValue)
    return switch control {
    case .setStatusFlags: [isControl, .masked(2, mask: direct, equals: direct)]
    default: [isControl]
    }
  }

  /// O_DIRECT
  private static let direct = OpenModel.direct
}
