// CUSE hands a read or write on with offset 0: the node has no file position and pread(2)'s offset
// is dropped. It hands on as many bytes as FUSE could reach, which may be fewer than were asked for,
// and not how a vector divides them. The kernel still shows all of it: the caller is blocked in the
// call, and /proc/<tid>/syscall lists the call's number and its six raw arguments.

internal import SystemPackage
internal import UAPI

/// The read(2), write(2) or relative in which a thread is blocked.
struct TransferCall: Equatable {
  /// Where in the file; nil for the file position, which a CUSE node does not have.
  let offset: UInt64?
  /// Of the buffer, or of the vector of buffers.
  private let address: UInt64
  private let count: UInt64
  private let isVector: Bool
  private let wordSize: Int
  /// RWF_… of preadv2 and pwritev2.
  private let flags: UInt64

  /// Nil for a call whose position in the file cannot be known (io_uring, splice).
  init?(_ call: BlockedCall) {
    guard let form = Self.forms[call.number] else { return nil }
    let arguments = call.arguments.map { form.wordSize == 4 ? $0 & 0xffff_ffff : $0 }
    (address, count) = (arguments[1], arguments[2])
    (isVector, wordSize) = (form.isVector, form.wordSize)
    let halves = arguments[3] | arguments[4] << 32
    switch form.position {
    case .file: offset = nil
    case .argument: offset = wordSize == 4 ? halves : arguments[3]
    case .argumentOrFile: offset = arguments[3] == UInt64.max ? nil : arguments[3]
    }
    flags = form.position == .argumentOrFile ? arguments[5] : 0
  }

  /// Whether it asks for these bytes and no others, in one piece of memory.
  func isWhole(_ bytes: Int) -> Bool { !isVector && count == UInt64(bytes) }

  /// All its memory.
  /// - Throws: what the kernel answers for a file that has no vector operations.
  func transfer(in memory: some UserMemory) throws(Errno) -> Transfer {
    if flags & ~Self.highPriority != 0 { throw .notSupported }
    guard isVector else { return try Transfer(address: address, count: count) }
    return try Transfer(vector: address, count: count, wordSize: wordSize, in: memory)
  }

  /// RWF_HIPRI, the only flag that such a file takes.
  private static let highPriority: UInt64 = 1

  private enum Position {
    /// The file's position: no argument.
    case file
    /// The fourth argument, as in pread64 and (whose fifth is its unused upper half) preadv; of
    /// 32-bit callers the fourth and the fifth.
    case argument
    /// As `argument`; -1 means the file's (preadv2).
    case argumentOrFile
  }

  private struct Form {
    let position: Position
    var isVector = false
    var wordSize = 8
  }

  #if arch(x86_64)
    // asm/unistd_64.h, then asm/unistd_32.h. The numbers do not collide: what a 64-bit number means
    // to i386 is no call that could be blocked in our read or write, and the reverse.
    private static let forms: [Int: Form] = [
      0: Form(position: .file), 1: Form(position: .file),
      17: Form(position: .argument), 18: Form(position: .argument),
      19: Form(position: .file, isVector: true), 20: Form(position: .file, isVector: true),
      295: Form(position: .argument, isVector: true),
      296: Form(position: .argument, isVector: true),
      327: Form(position: .argumentOrFile, isVector: true),
      328: Form(position: .argumentOrFile, isVector: true),
      3: Form(position: .file, wordSize: 4), 4: Form(position: .file, wordSize: 4),
      145: Form(position: .file, isVector: true, wordSize: 4),
      146: Form(position: .file, isVector: true, wordSize: 4),
      180: Form(position: .argument, wordSize: 4), 181: Form(position: .argument, wordSize: 4),
      333: Form(position: .argument, isVector: true, wordSize: 4),
      334: Form(position: .argument, isVector: true, wordSize: 4),
    ]
  #else
    // asm-generic/unistd.h
    private static let forms: [Int: Form] = [
      63: Form(position: .file), 64: Form(position: .file),
      65: Form(position: .file, isVector: true), 66: Form(position: .file, isVector: true),
      67: Form(position: .argument), 68: Form(position: .argument),
      69: Form(position: .argument, isVector: true),
      70: Form(position: .argument, isVector: true),
      286: Form(position: .argumentOrFile, isVector: true),
      287: Form(position: .argumentOrFile, isVector: true),
    ]
  #endif
}
