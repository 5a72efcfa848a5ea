// SPDX-License-Identifier: Apache-2.0

// The system calls that the filter traps, as one table: the call, its number on each architecture,
// and the conditions on its arguments that the filter can test.
//
// A trapped call costs its program some microseconds, an untrapped one nothing. So the conditions
// let all calls pass that cannot concern a device. The filter can test registers but no memory, and
// a path is in memory. The remaining calls are ioctls of VFIO's type, opens, look-ups of status,
// mappings of files, and reads and writes of a device region or a queue.

/// A condition on one argument.
enum ArgumentCondition: Equatable {
  /// The lower 32 bits fulfil `argument & mask == value`.
  case masked(_ argument: Int, mask: UInt32, equals: UInt32)
  /// The lower 32 bits, unsigned, are `minimum` or more.
  case atLeast(_ argument: Int, minimum: UInt32)
  /// The lower 32 bits fulfil `argument & mask != value`.
  case unlike(_ argument: Int, mask: UInt32, value: UInt32)
  /// The file offset that starts at this argument lies in a device region, see ``RegionOffset``.
  case regionOffset(_ argument: Int)
}

/// The lowest number of a queue descriptor. The filter distinguishes read(2) and write(2) of queues
/// from those of other files by the descriptor number. The usual soft limit of 1024 leaves room for
/// 64 queues.
let firstQueueDescriptor: Int32 = 960

/// A row of the table.
struct Trap {
  let systemCall: SystemCall
  /// The number on each architecture. `nil` when the architecture does not have the call.
  let x8664: UInt32?
  let i386: UInt32?
  let aarch64: UInt32?
  /// The call is trapped when all conditions of one of the elements hold. An element without
  /// conditions always holds.
  var cases: [[ArgumentCondition]] = [[]]

  func number(on architecture: Architecture) -> UInt32? {
    switch architecture {
    case .x8664: x8664
    case .i386: i386
    case .aarch64: aarch64
    }
  }

  /// The trapped call with `number`. `nil` for calls that are not in the table.
  static func systemCall(number: UInt32, on architecture: Architecture) -> SystemCall? {
    systemCalls[architecture]?[number]
  }

  private static let systemCalls: [Architecture: [UInt32: SystemCall]] = {
    var systemCalls: [Architecture: [UInt32: SystemCall]] = [:]
    for architecture in Architecture.allCases {
      for trap in table + exits {
        if let number = trap.number(on: architecture) {
          systemCalls[architecture, default: [:]][number] = trap.systemCall
        }
      }
    }
    return systemCalls
  }()

  /// Offsets of a region, and offset 0, which a program passes to find out whether it can read at
  /// offsets.
  private static let region: [[ArgumentCondition]] = [
    [.regionOffset(3)], [.masked(3, mask: .max, equals: 0)],
  ]
  /// preadv2(2) with offset -1, which stands for the file position. The condition tests the lower
  /// half of the offset.
  private static let position: [[ArgumentCondition]] = [
    [
      .atLeast(0, minimum: UInt32(firstQueueDescriptor)),
      .masked(3, mask: .max, equals: .max),
    ]
  ]

  /// The table for programs that have virtual files (``VirtualFiles``). It traps transfers at any
  /// offset on descriptors from ``firstQueueDescriptor`` on, which virtual files get.
  static let tableWithVirtualFiles: [Trap] = table.map { trap in
    var trap = trap
    switch trap.systemCall {
    case .pread, .preadv, .preadv2, .pwrite, .pwritev, .pwritev2: trap.cases += highNumber
    default: break
    }
    return trap
  }

  /// The calls by which a process leaves its address space. A fatal signal, which has the same
  /// effect, is no call.
  static let exits: [Trap] = [
    Trap(systemCall: .execve, x8664: 59, i386: 11, aarch64: 221),
    Trap(systemCall: .execveat, x8664: 322, i386: 358, aarch64: 281),
    Trap(systemCall: .exit, x8664: 60, i386: 1, aarch64: 93),
    Trap(systemCall: .exitGroup, x8664: 231, i386: 252, aarch64: 94),
  ]

  static let table: [Trap] = frequent + descriptors + highNumbers + paths

  /// The calls that programs make most often come first, because the kernel compares the number of
  /// a call with all rows before its own.
  private static let frequent: [Trap] = [
    Trap(systemCall: .read, x8664: 0, i386: 3, aarch64: 63, cases: highNumber),
    Trap(systemCall: .readv, x8664: 19, i386: 145, aarch64: 65, cases: highNumber),
    Trap(systemCall: .write, x8664: 1, i386: 4, aarch64: 64, cases: highNumber),
    Trap(systemCall: .writev, x8664: 20, i386: 146, aarch64: 66, cases: highNumber),
    Trap(systemCall: .pread, x8664: 17, i386: 180, aarch64: 67, cases: region),
    Trap(systemCall: .preadv, x8664: 295, i386: 333, aarch64: 69, cases: region),
    Trap(systemCall: .preadv2, x8664: 327, i386: 378, aarch64: 286, cases: region + position),
    Trap(systemCall: .pwrite, x8664: 18, i386: 181, aarch64: 68, cases: region),
    Trap(systemCall: .pwritev, x8664: 296, i386: 334, aarch64: 70, cases: region),
    Trap(systemCall: .pwritev2, x8664: 328, i386: 379, aarch64: 287, cases: region + position),
    // Mappings of files: no MAP_ANONYMOUS. MAP_DENYWRITE, which the kernel ignores, marks the
    // mappings of the dynamic linker; they are not trapped.
    Trap(
      systemCall: .mmap, x8664: 9, i386: 192, aarch64: 222,
      cases: [[.masked(3, mask: 0x820, equals: 0)]]),
    // iommufd_fops_ioctl() selects the command by the request's number, and compares the whole
    // request only after it has read the argument. So the filter traps all requests of VFIO's type,
    // with any direction and size, and requests of other types that have no direction, no size and
    // a number in iommufd's range (0x80 and above). Requests of KVM's type are left out, so that
    // KVM_RUN is not delayed, except KVM_SET_DEVICE_ATTR, by which a VMM passes VFIO files to KVM.
    Trap(
      systemCall: .ioctl, x8664: 16, i386: 54, aarch64: 29,
      cases: [
        [.masked(1, mask: 0xff00, equals: 0x3b00)],
        [
          .masked(1, mask: 0xffff_0080, equals: 0x80), .unlike(1, mask: 0xff00, value: 0xae00),
        ],
        [.masked(1, mask: .max, equals: KVMDevice.setAttribute)],
        // Requests that the kernel answers for a regular file: FIBMAP, TCGETS, FIONREAD, FIOQSIZE
        // and those of file attributes.
        [.masked(1, mask: .max, equals: 0x1)], [.masked(1, mask: .max, equals: 0x5401)],
        [.masked(1, mask: .max, equals: 0x541b)], [.masked(1, mask: .max, equals: 0x5460)],
        [.masked(1, mask: 0xff00, equals: 0x6600)],
        [.atLeast(0, minimum: UInt32(firstQueueDescriptor))],
      ]),
    // A file without positions answers ESPIPE, but a memfd has one.
    Trap(systemCall: .lseek, x8664: 8, i386: 19, aarch64: 62),
    Trap(systemCall: .llseek, x8664: nil, i386: 140, aarch64: nil),
  ]
}
