// The caller's buffer of a long access. The kernel copies register by register; here a copy is a
// system call, so bytes move by the page. What the client can observe is the same: where a page
// cannot be read, register by register decides how far a write gets.

internal import SystemPackage
internal import UAPI

/// Bytes on their way to the caller.
struct OutgoingBytes {
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

  mutating func flush() throws(Errno) {
    try destination.memory.storeArray(pending, at: destination.address &+ UInt64(stored))
    stored += pending.count
    pending.removeAll(keepingCapacity: true)
  }
}

/// Bytes coming from the caller.
struct IncomingBytes {
  private let source: UserBuffer
  private var piece: [UInt8] = []
  private var pieceStart = 0

  private static let pieceSize = 4096

  init(_ source: UserBuffer) { self.source = source }

  /// `count` bytes at `position` as a little-endian number.
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
