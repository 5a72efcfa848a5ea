package import SystemPackage

/// The memory of one read(2), readv(2), pread(2) or preadv(2), or of the corresponding write.
///
/// A file that has read and write operations but no operations for vectors is called once for each
/// piece of memory, until a call transfers less than its piece (fs: vfs_readv(),
/// do_loop_readv_writev()).
package struct Transfer: Sendable, Equatable {
  /// A contiguous part of the caller's memory.
  package struct Piece: Sendable, Equatable {
    package let address: UInt64
    package let count: Int
  }

  /// The pieces for which the file is called. An empty piece is listed only when it is the first
  /// piece of a vector that has bytes. A vector without bytes has no pieces.
  package let pieces: [Piece]

  /// MAX_RW_COUNT. A longer transfer is shortened.
  private static let maximumSize = 0x7fff_f000
  /// UIO_MAXIOV
  private static let maximumPieces: UInt64 = 1024

  /// Makes the transfer of a single buffer.
  /// - Throws: `.badAddress` when the buffer is not in user space. The kernel checks this before it
  ///   calls the file.
  package init(address: UInt64, count: UInt64) throws(Errno) {
    guard UserSpace.contains(address, count: count) else { throw .badAddress }
    pieces = [Piece(address: address, count: Int(min(count, UInt64(Self.maximumSize))))]
  }

  /// Makes the transfer of a vector.
  /// - Parameters:
  ///   - vector: the address of `count` structs iovec, of two words each.
  ///   - wordSize: 4 for a 32-bit caller, otherwise 8.
  /// - Throws: `.invalidArgument` for a vector or a piece that is too long; `.badAddress` when the
  ///   vector cannot be read or a piece is not in user space.
  package init(
    vector: UInt64, count: UInt64, wordSize: Int, in memory: some UserMemory
  ) throws(Errno) {
    if count > Self.maximumPieces { throw .invalidArgument }
    var left = Self.maximumSize
    var pieces: [Piece] = []
    for index in 0..<count {
      let (address, overflow) = vector.addingReportingOverflow(index * 2 * UInt64(wordSize))
      if overflow { throw .badAddress }
      let piece = try Self.piece(at: address, wordSize: wordSize, in: memory)
      pieces.append(Piece(address: piece.address, count: min(piece.count, left)))
      left -= min(piece.count, left)
    }
    guard pieces.allSatisfy({ UserSpace.contains($0.address, count: UInt64($0.count)) }) else {
      throw .badAddress
    }
    guard pieces.contains(where: { $0.count > 0 }) else {
      self.pieces = []
      return
    }
    self.pieces = pieces.prefix(1) + pieces.dropFirst().filter { $0.count > 0 }
  }

  /// The number of bytes that the caller asks for.
  package var count: Int { pieces.reduce(0) { $0 + $1.count } }

  /// Calls `move` for each piece until a call transfers less than its piece.
  /// - Parameter move: transfers one piece; `done` is the number of bytes that the pieces before it
  ///   have transferred.
  /// - Returns: the number of bytes transferred.
  /// - Throws: the error of `move` when no byte was transferred before it.
  package func run(
    in memory: any UserMemory, _ move: (UserBuffer, _ done: Int) throws(Errno) -> Int
  ) throws(Errno) -> Int {
    var done = 0
    for piece in pieces {
      let buffer = UserBuffer(memory: memory, address: piece.address, count: piece.count)
      let count: Int
      do {
        count = try move(buffer, done)
      } catch {
        if done > 0 { break }
        throw error
      }
      done += count
      if count < piece.count { break }
    }
    return done
  }

  private static func piece(
    at address: UInt64, wordSize: Int, in memory: some UserMemory
  ) throws(Errno) -> Piece {
    if wordSize == 4 {
      let words: [UInt32] = try memory.loadArray(2, at: address)
      if words[1] > UInt32(Int32.max) { throw .invalidArgument }
      return Piece(address: UInt64(words[0]), count: Int(words[1]))
    }
    let words: [UInt64] = try memory.loadArray(2, at: address)
    if words[1] > UInt64(Int.max) { throw .invalidArgument }
    return Piece(address: words[0], count: Int(words[1]))
  }
}
