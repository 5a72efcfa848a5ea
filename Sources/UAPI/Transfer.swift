// The memory of a read(2), a write(2) or one of their relatives, as the kernel takes it apart for a
// file that has read and write operations but none for vectors: the file is called once for each
// piece, until one call does less than it was asked for (fs: vfs_readv(), do_loop_readv_writev()).

package import SystemPackage

package struct Transfer: Sendable, Equatable {
  package struct Piece: Sendable, Equatable {
    package let address: UInt64
    package let count: Int
  }

  /// None for a vector without bytes, which asks for nothing. In another one an empty piece counts
  /// only when it is the first.
  package let pieces: [Piece]

  /// MAX_RW_COUNT: longer transfers are cut.
  private static let mostBytes = 0x7fff_f000
  /// UIO_MAXIOV
  private static let mostPieces: UInt64 = 1024

  /// - Throws: `.badAddress` for what is beyond any process's memory, before the file is asked.
  package init(address: UInt64, count: UInt64) throws(Errno) {
    guard UserSpace.contains(address, count: count) else { throw .badAddress }
    pieces = [Piece(address: address, count: Int(min(count, UInt64(Self.mostBytes))))]
  }

  /// - Parameters:
  ///   - vector: where `count` structs iovec are, of two words each.
  ///   - wordSize: 4 for 32-bit callers, else 8.
  package init(
    vector: UInt64, count: UInt64, wordSize: Int, in memory: some UserMemory
  ) throws(Errno) {
    if count > Self.mostPieces { throw .invalidArgument }
    var left = Self.mostBytes
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

  /// All that is asked for.
  package var count: Int { pieces.reduce(0) { $0 + $1.count } }

  /// Has `move` read or write each piece; `done` is what those before have moved.
  /// - Returns: the bytes moved. An error counts only when there are none.
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
