// CUSE hands a read or write on with offset 0: the node has no file position and pread(2)'s offset
// is dropped. The kernel still shows it: the caller is blocked in the call, and /proc/<tid>/syscall
// lists the call's number and its six raw arguments.
//
// A transfer of more than 128 KiB arrives in pieces, each with the number of bytes before it as its
// offset; the true offset is the sum.

/// The file offset that a blocked system call names.
enum SystemCallPosition: Equatable {
  /// pread(2) and its relatives.
  case explicit(UInt64)
  /// read(2) and its relatives: the file position, which a CUSE node does not have.
  case implicit
  /// Not a call that reads or writes a file at a position that can be known (io_uring, splice).
  case unknown

  init(of call: BlockedCall) {
    let arguments = call.arguments
    switch Self.calls[call.number] {
    case .position?:
      self = .implicit
    case .offset?:
      self = .explicit(arguments[3])
    case .offsetOrPosition?:
      self = arguments[3] == UInt64.max ? .implicit : .explicit(arguments[3])
    case .offsetInHalves?:
      self = .explicit(arguments[3] & 0xffff_ffff | arguments[4] << 32)
    case nil:
      self = .unknown
    }
  }

  private enum Form {
    /// No offset argument.
    case position
    /// The fourth argument, as in pread64 and (whose fifth is its unused upper half) preadv.
    case offset
    /// As `offset`; -1 means the file position (preadv2).
    case offsetOrPosition
    /// Two 32-bit registers (i386).
    case offsetInHalves
  }

  #if arch(x86_64)
    // asm/unistd_64.h, then asm/unistd_32.h. The numbers do not collide: what a 64-bit number means
    // to i386 is no call that could be blocked in our read or write, and the reverse.
    private static let calls: [Int: Form] = [
      0: .position, 1: .position, 19: .position, 20: .position,
      17: .offset, 18: .offset, 295: .offset, 296: .offset,
      327: .offsetOrPosition, 328: .offsetOrPosition,
      3: .position, 4: .position, 145: .position, 146: .position,
      180: .offsetInHalves, 181: .offsetInHalves, 333: .offsetInHalves, 334: .offsetInHalves,
    ]
  #else
    // asm-generic/unistd.h
    private static let calls: [Int: Form] = [
      63: .position, 64: .position, 65: .position, 66: .position,
      67: .offset, 68: .offset, 69: .offset, 70: .offset,
      286: .offsetOrPosition, 287: .offsetOrPosition,
    ]
  #endif
}
