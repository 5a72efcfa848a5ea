// SPDX-License-Identifier: Apache-2.0

internal import FrontEnd
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// The read and write calls on one open file that FUSE splits into several messages.
///
/// FUSE pins the caller's memory before it sends a message, and sends what it could pin: at most 32
/// pages, and nothing beyond the first missing page. It sends the next message when the last one
/// was answered in full. The kernel instead calls a file's operation once for the whole call; the
/// operation answers EFAULT when it reaches missing memory, possibly after it has had an effect.
///
/// So the first message of such a call makes the device do the whole call, on the caller's own
/// memory. The messages that follow are answered from the result.
final class SplitTransfers: Sendable {
  /// A call that the device has done, and for which more messages are expected.
  private struct SplitCall {
    let transfer: Transfer
    /// The bytes that the device has moved.
    let done: Int
  }

  /// By thread. The entry of a killed thread is replaced by the first split call of the next thread
  /// with its id.
  private let calls = Mutex<[Int32: SplitCall]>([:])
  private static let limit = 256

  /// Returns the answer to a message about `count` bytes after the first `start` bytes of
  /// `thread`'s call.
  /// - Parameter run: makes the device do the whole call. Called for the first message only.
  /// - Throws: what `run` throws; `.ioError` for a message of a call that is not known.
  func answer(
    to thread: Int32, _ count: Int, after start: Int,
    run: () throws(Errno) -> (transfer: Transfer, done: Int)
  ) throws(Errno) -> (transfer: Transfer, count: Int) {
    let call: SplitCall
    if start == 0 {
      let result = try run()
      call = SplitCall(transfer: result.transfer, done: result.done)
    } else if let known = calls.withLock({ $0[thread] }) {
      call = known
    } else {
      throw .ioError
    }
    let part = min(max(call.done - start, 0), count)
    let isLast = part < count || start + part == call.transfer.count
    calls.withLock { calls in
      calls[thread] = nil
      if isLast { return }
      if calls.count >= Self.limit { calls.removeAll() }
      calls[thread] = call
    }
    return (call.transfer, part)
  }
}

extension Transfer {
  /// Fills `buffer` with the bytes that follow the first `start` bytes of the pieces.
  func gather(
    after start: Int, into buffer: UnsafeMutableRawBufferPointer, from memory: some UserMemory
  ) throws(Errno) {
    var skipped = start
    var filled = 0
    for piece in pieces where filled < buffer.count {
      let count = min(max(piece.count - skipped, 0), buffer.count - filled)
      if count > 0 {
        try memory.copyIn(
          from: piece.address + UInt64(skipped),
          into: UnsafeMutableRawBufferPointer(rebasing: buffer[filled..<filled + count]))
      }
      filled += count
      skipped = max(skipped - piece.count, 0)
    }
  }
}
