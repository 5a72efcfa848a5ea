// SPDX-License-Identifier: Apache-2.0

// Sequential access to the buffer of a read(2) or write(2). The kernel copies one register at a
// time. Here each copy is a system call, so these types copy up to 4096 bytes at a time. The client
// observes the same result: when a piece cannot be read, the reader falls back to single registers,
// so a write reaches the same register as in the kernel.

internal import SystemPackage
internal import UAPI

/// Collects the bytes of a read(2) and stores them in the caller's buffer.
struct UserBufferWriter {
  private let destination: UserBuffer
  private var pending: [UInt8] = []
  private var stored = 0

  private static let pieceSize = 4096

  init(_ destination: UserBuffer) { self.destination = destination }

  /// Appends the low `count` bytes of `value`.
  mutating func append(_ value: UInt64, _ count: Int) throws(Errno) {
    for index in 0..<count { pending.append(UInt8(truncatingIfNeeded: value >> (index * 8))) }
    if pending.count >= Self.pieceSize { try flush() }
  }

  /// Stores the bytes that have been appended since the last flush.
  mutating func flush() throws(Errno) {
    try destination.memory.storeArray(pending, at: destination.address &+ UInt64(stored))
    stored += pending.count
    pending.removeAll(keepingCapacity: true)
  }
}

/// Loads the bytes of a write(2) from the caller's buffer.
struct UserBufferReader {
  private let source: UserBuffer
  private var piece: [UInt8] = []
  private var pieceStart = 0

  private static let pieceSize = 4096

  init(_ source: UserBuffer) { self.source = source }

  /// Returns the `count` bytes at `position` as a little-endian number.
  mutating func load(_ count: Int, at position: Int) throws(Errno) -> UInt64 {
    if position + count > pieceStart + piece.count { try refill(at: position, atLeast: count) }
    var value: UInt64 = 0
    for index in 0..<count {
      value |= UInt64(piece[position - pieceStart + index]) << (index * 8)
    }
    return value
  }

  private mutating func refill(at position: Int, atLeast count: Int) throws(Errno) {
    pieceStart = position
    do throws(Errno) {
      piece = try bytes(min(Self.pieceSize, source.count - position), at: position)
    } catch {
      piece = try bytes(count, at: position)
    }
  }

  private func bytes(_ count: Int, at position: Int) throws(Errno) -> [UInt8] {
    try source.memory.loadArray(count, at: source.address &+ UInt64(position))
  }
}
