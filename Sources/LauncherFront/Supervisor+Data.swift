// read, write and mmap. The kernel gives vectors to a file without read_iter one piece at a time
// (fs: do_loop_readv_writev()), and so do we.

internal import Glibc
internal import Synchronization
internal import SystemPackage
internal import UAPI

extension Supervisor {
  private struct Piece {
    let address: UInt64
    let count: Int
  }

  /// RWF_HIPRI, the only flag that a file without read_iter takes.
  private static let highPriority: UInt32 = 1

  /// MAX_RW_COUNT: longer transfers are cut.
  private static let mostBytes = 0x7fff_f000

  /// pread and its relatives, by the offset known to be meant for a device region.
  func transferAtOffset(_ call: TrappedCall) throws(Errno) -> Answer {
    try withEntry(for: call) { (entry, client) throws(Errno) in
      // A queue has no position; the carrier says ESPIPE natively.
      guard entry.queue == nil else { return .native }
      if call.operation.hasFlags, call.word(5) & ~Self.highPriority != 0 { throw .notSupported }
      return try transfer(call, of: entry, from: call.offset(3), client)
    }
  }

  /// read and its relatives on a high descriptor number. A device's own descriptor may have been
  /// moved there; it is read where it would be below.
  func transferOfQueue(_ call: TrappedCall) throws(Errno) -> Answer {
    try withEntry(for: call) { (entry, client) throws(Errno) in
      if let position = entry.position { return try transfer(call, of: entry, position, client) }
      guard let queue = entry.queue else { return .native }
      defer { queue.settle(entry.file, descriptor: call.descriptor(0), of: call.task) }
      return try transfer(call, of: entry, from: 0, client)
    }
  }

  /// read and its relatives on a virtual file, which has a position.
  private func transfer(
    _ call: TrappedCall, of entry: OpenEntry, _ position: FilePosition,
    _ client: LauncherClient
  ) throws(Errno) -> Answer {
    let start = position.offset.withLock { $0 }
    let answer = try transfer(call, of: entry, from: start, client)
    if case .value(let count) = answer { position.offset.withLock { $0 = start &+ UInt64(count) } }
    return answer
  }

  private func transfer(
    _ call: TrappedCall, of entry: OpenEntry, from start: UInt64, _ client: LauncherClient
  ) throws(Errno) -> Answer {
    var done = 0
    for piece in try pieces(of: call, client) {
      let buffer = UserBuffer(memory: client, address: piece.address, count: piece.count)
      let count: Int
      do {
        let offset = start &+ UInt64(done)
        count = try injecting(into: call) { () throws(Errno) in
          call.operation.isWrite
            ? try entry.file.write(from: buffer, at: offset)
            : try entry.file.read(into: buffer, at: offset)
        }
      } catch {
        if done > 0 { break }
        throw error
      }
      done += count
      if count < piece.count { break }
    }
    return .value(Int64(done))
  }

  private func pieces(of call: TrappedCall, _ client: LauncherClient) throws(Errno) -> [Piece] {
    guard call.operation.isVectored else {
      let count = call[2]
      if count > UInt64(Int.max) { throw .invalidArgument }
      return [Piece(address: call[1], count: min(Int(count), Self.mostBytes))]
    }
    let count = call[2]
    if count > UInt64(UIO_MAXIOV) { throw .invalidArgument }
    var left = Self.mostBytes
    var pieces: [Piece] = []
    for index in 0..<count {
      let piece = try vectorElement(index, of: call, client)
      pieces.append(Piece(address: piece.address, count: min(piece.count, left)))
      left -= min(piece.count, left)
    }
    return pieces
  }

  private func vectorElement(
    _ index: UInt64, of call: TrappedCall, _ client: LauncherClient
  ) throws(Errno) -> Piece {
    let word = UInt64(call.architecture.wordSize)
    let (address, overflow) = call[1].addingReportingOverflow(index * 2 * word)
    if overflow { throw .badAddress }
    if word == 4 {
      let (base, count) = (
        try client.load(UInt32.self, at: address), try client.load(UInt32.self, at: address &+ 4)
      )
      if count > UInt32(Int32.max) { throw .invalidArgument }
      return Piece(address: UInt64(base), count: Int(count))
    }
    let (base, count) = (
      try client.load(UInt64.self, at: address), try client.load(UInt64.self, at: address &+ 8)
    )
    if count > UInt64(Int.max) { throw .invalidArgument }
    return Piece(address: base, count: Int(count))
  }

  /// A shared mapping of a device. A program can map only what its own descriptor carries, and a
  /// carrier holds nothing, so the best answer is that of a device that cannot be mapped.
  func map(_ call: TrappedCall) throws(Errno) -> Answer {
    guard let entry = try? files.begin(call.descriptor(4), of: call.task) else { return .native }
    defer { files.end(entry) }
    // mm: do_mmap(). Nothing under /dev may be executed.
    if call.word(2) & UInt32(PROT_EXEC) != 0 { throw .notPermitted }
    let offset =
      call.architecture == .i386 ? UInt64(call.word(5)) << 12 : call[5]
    _ = try entry.file.mapping(at: offset, length: call[1])
    throw .operationNotSupportedByDevice
  }
}

extension Operation {
  fileprivate var isWrite: Bool {
    switch self {
    case .pwrite, .pwritev, .pwritev2, .write, .writev: true
    default: false
    }
  }

  fileprivate var hasFlags: Bool { self == .preadv2 || self == .pwritev2 }

  fileprivate var isVectored: Bool {
    switch self {
    case .preadv, .preadv2, .pwritev, .pwritev2, .readv, .writev: true
    default: false
    }
  }
}
