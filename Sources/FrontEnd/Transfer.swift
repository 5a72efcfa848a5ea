// SPDX-License-Identifier: Apache-2.0

package import SystemPackage
package import UAPI

/// The memory of one read(2), write(2) or one of their relatives, divided as the kernel divides it
/// for a file that has read and write operations but no read_iter and write_iter: the kernel calls
/// the file's operation once for each piece, until one call moves fewer bytes than its piece has
/// (fs: vfs_readv(), do_loop_readv_writev()).
package struct Transfer: Sendable, Equatable {
  /// One contiguous address range.
  package struct Piece: Sendable, Equatable {
    package let address: UInt64
    package let count: Int
  }

  /// The pieces for which the file's operation is called. Empty for a vector without bytes, for
  /// which the kernel does not call the operation. Other vectors keep an empty piece only when it
  /// is the first.
  package let pieces: [Piece]

  /// MAX_RW_COUNT. The kernel shortens longer transfers to this length.
  private static let mostBytes = 0x7fff_f000
  /// UIO_MAXIOV.
  private static let mostPieces: UInt64 = 1024

  /// The memory of a call with one buffer.
  /// - Throws: `.badAddress` when the range reaches beyond user space. The kernel checks this
  ///   before it calls the file's operation.
  package init(address: UInt64, count: UInt64) throws(Errno) {
    guard UserSpace.contains(address, count: count) else { throw .badAddress }
    pieces = [Piece(address: address, count: Int(min(count, UInt64(Self.mostBytes))))]
  }

  /// The memory of a call with a vector of buffers (lib/iov_iter.c: import_iovec()).
  /// - Parameters:
  ///   - vector: the address of `count` structs iovec, of two words each.
  ///   - wordSize: the bytes of a word: 4 for 32-bit callers, otherwise 8.
  /// - Throws: `.invalidArgument` for more than UIO_MAXIOV buffers or a negative length,
  ///   `.badAddress` when the vector cannot be read or a buffer reaches beyond user space.
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

  /// The bytes of all pieces.
  package var count: Int { pieces.reduce(0) { $0 + $1.count } }

  /// Calls `move`, which reads or writes, for each piece until one call moves fewer bytes than its
  /// piece has. `done` is the number of bytes that the calls before have moved.
  /// - Returns: the bytes that all calls moved.
  /// - Throws: the error of `move`, only when no byte was moved before it.
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
