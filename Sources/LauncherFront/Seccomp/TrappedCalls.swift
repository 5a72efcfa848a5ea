// Which system calls of a program the supervisor sees, as one table: operation, number on each
// architecture, and the conditions on the arguments that the filter can test.
//
// A trapped call costs its program some microseconds, an untrapped one nothing. So the conditions
// let everything pass that cannot concern a device: the filter sees registers, never memory, and a
// path is memory. What is left are ioctls of VFIO's type, opens for reading *and* writing, look-ups of
// file status, mappings of files, and reads and writes that name a device region or a queue.

internal import CLinux

/// A system call ABI. The same process may use two: a 64-bit kernel runs 32-bit programs.
enum Architecture: CaseIterable {
  case x8664, i386, aarch64

  /// The AUDIT_ARCH_… value in struct seccomp_data.
  var auditValue: UInt32 {
    switch self {
    case .x8664: CLinux_AUDIT_ARCH_X86_64
    case .i386: CLinux_AUDIT_ARCH_I386
    case .aarch64: CLinux_AUDIT_ARCH_AARCH64
    }
  }

  /// The size of a pointer in structures of this ABI.
  var wordSize: Int { self == .i386 ? 4 : 8 }

  init?(auditValue: UInt32) {
    let match = Self.allCases.first { $0.auditValue == auditValue }
    guard let match else { return nil }
    self = match
  }
}

/// What a trapped call does, whatever its number.
enum Operation: String {
  case access, faccessat, faccessat2
  case execve, execveat, exit, exitGroup
  case fcntl
  case fstat, fstatat, lstat, stat, statx
  case ioctl
  case lseek
  case mmap
  case open, openat, openat2
  case pread, preadv, preadv2, pwrite, pwritev, pwritev2
  case read, readv, write, writev
}

/// A test of one argument that makes the call worth seeing.
enum Condition: Equatable {
  /// `argument & mask == value`, of the lower 32 bits.
  case masked(_ argument: Int, mask: UInt32, equals: UInt32)
  /// The lower 32 bits, unsigned, are `minimum` or more.
  case atLeast(_ argument: Int, minimum: UInt32)
  /// `argument & mask != value`, of the lower 32 bits.
  case unlike(_ argument: Int, mask: UInt32, value: UInt32)
  /// The file offset that starts at this argument lies in a device region, see `RegionOffset`.
  case regionOffset(_ argument: Int)
}

/// Queue descriptors are given numbers from here on, so that the filter can tell their read and
/// write from the others by number. Within the usual soft limit of 1024 this leaves room for 64.
let firstQueueDescriptor: Int32 = 960

struct Trap {
  let operation: Operation
  let x8664: UInt32?
  let i386: UInt32?
  let aarch64: UInt32?
  /// The call is seen when all conditions of one of these hold.
  var cases: [[Condition]] = [[]]

  func number(on architecture: Architecture) -> UInt32? {
    switch architecture {
    case .x8664: x8664
    case .i386: i386
    case .aarch64: aarch64
    }
  }

  static func operation(number: UInt32, on architecture: Architecture) -> Operation? {
    operations[architecture]?[number]
  }

  private static let operations: [Architecture: [UInt32: Operation]] = {
    var operations: [Architecture: [UInt32: Operation]] = [:]
    for architecture in Architecture.allCases {
      for trap in table + ends {
        if let number = trap.number(on: architecture) {
          operations[architecture, default: [:]][number] = trap.operation
        }
      }
    }
    return operations
  }()

  /// O_ACCMODE | O_DIRECTORY | O_PATH. O_CREAT is not looked at: a shell's `exec 3<>` sets it.
  private static let openMask: UInt32 = 0o3 | 0o200000 | 0o10000000
  /// arm64 has O_DIRECTORY at another bit.
  private static func opens(_ argument: Int) -> [[Condition]] {
    #if arch(arm64)
      let mask: UInt32 = 0o3 | 0o40000 | 0o10000000
    #else
      let mask = openMask
    #endif
    return [[.masked(argument, mask: mask, equals: 0o2)]]
  }
  private static let queue: [[Condition]] = [
    [.atLeast(0, minimum: UInt32(firstQueueDescriptor))]
  ]
  private static let region: [[Condition]] = [[.regionOffset(3)]]
  /// An offset of -1, of which the lower half is enough: preadv2(2) at the position.
  private static let position: [[Condition]] = [
    [
      .atLeast(0, minimum: UInt32(firstQueueDescriptor)),
      .masked(3, mask: .max, equals: .max),
    ]
  ]

  /// What is seen where programs have files beside devices (VirtualFiles): every open, and transfers at
  /// any offset of the descriptors that such files get.
  static let tableWithVirtualFiles: [Trap] = table.map { trap in
    var trap = trap
    switch trap.operation {
    case .open, .openat: trap.cases = [[]]
    case .pread, .preadv, .preadv2, .pwrite, .pwritev, .pwritev2: trap.cases += queue
    default: break
    }
    return trap
  }

  /// By which a process leaves its address space, other than by a fatal signal.
  static let ends: [Trap] = [
    Trap(operation: .execve, x8664: 59, i386: 11, aarch64: 221),
    Trap(operation: .execveat, x8664: 322, i386: 358, aarch64: 281),
    Trap(operation: .exit, x8664: 60, i386: 1, aarch64: 93),
    Trap(operation: .exitGroup, x8664: 231, i386: 252, aarch64: 94),
  ]

  static let table: [Trap] = [
    Trap(operation: .access, x8664: 21, i386: 33, aarch64: nil),
    Trap(operation: .faccessat, x8664: 269, i386: 307, aarch64: 48),
    Trap(operation: .faccessat2, x8664: 439, i386: 439, aarch64: 439),
    // F_GETFL
    Trap(
      operation: .fcntl, x8664: 72, i386: 221, aarch64: 25,
      cases: [
        [
          .atLeast(0, minimum: UInt32(firstQueueDescriptor)),
          .masked(1, mask: 0xffff_ffff, equals: 3),
        ]
      ]),
    Trap(operation: .fstat, x8664: 5, i386: 197, aarch64: 80),
    Trap(operation: .fstatat, x8664: 262, i386: 300, aarch64: 79),
    // VFIO's type with every direction and size, and every type with a number in iommufd's range:
    // the kernel compares them only after it has read the argument. KVM_RUN is not delayed. What KVM
    // is told of VFIO files is one request of its own.
    Trap(
      operation: .ioctl, x8664: 16, i386: 54, aarch64: 29,
      cases: [
        [.masked(1, mask: 0xff00, equals: 0x3b00)],
        [
          .masked(1, mask: 0xffff_0080, equals: 0x80), .unlike(1, mask: 0xff00, value: 0xae00),
        ],
        [.masked(1, mask: .max, equals: KVMDevice.setAttribute)],
      ]),
    Trap(operation: .lseek, x8664: 8, i386: 19, aarch64: 62, cases: queue),
    Trap(operation: .lstat, x8664: 6, i386: 196, aarch64: nil),
    // Of a file. MAP_DENYWRITE has no meaning but says that it is the dynamic linker's.
    Trap(
      operation: .mmap, x8664: 9, i386: 192, aarch64: 222,
      cases: [[.masked(3, mask: 0x820, equals: 0)]]),
    Trap(operation: .open, x8664: 2, i386: 5, aarch64: nil, cases: opens(1)),
    Trap(operation: .openat, x8664: 257, i386: 295, aarch64: 56, cases: opens(2)),
    Trap(operation: .openat2, x8664: 437, i386: 437, aarch64: 437),
    Trap(operation: .pread, x8664: 17, i386: 180, aarch64: 67, cases: region),
    Trap(operation: .preadv, x8664: 295, i386: 333, aarch64: 69, cases: region),
    Trap(operation: .preadv2, x8664: 327, i386: 378, aarch64: 286, cases: region + position),
    Trap(operation: .pwrite, x8664: 18, i386: 181, aarch64: 68, cases: region),
    Trap(operation: .pwritev, x8664: 296, i386: 334, aarch64: 70, cases: region),
    Trap(operation: .pwritev2, x8664: 328, i386: 379, aarch64: 287, cases: region + position),
    Trap(operation: .read, x8664: 0, i386: 3, aarch64: 63, cases: queue),
    Trap(operation: .readv, x8664: 19, i386: 145, aarch64: 65, cases: queue),
    Trap(operation: .stat, x8664: 4, i386: 195, aarch64: nil),
    Trap(operation: .statx, x8664: 332, i386: 383, aarch64: 291),
    Trap(operation: .write, x8664: 1, i386: 4, aarch64: 64, cases: queue),
    Trap(operation: .writev, x8664: 20, i386: 146, aarch64: 66, cases: queue),
  ]
}
