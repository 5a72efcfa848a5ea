// Reads and writes of which FUSE does not send all at once.
//
// FUSE pins the caller's memory first, and passes on what it has got: at most 32 pages, and nothing
// beyond the first that is not there. When a message is answered in full it sends the next. A file of
// the kernel is asked for all at once, and answers EFAULT when it comes to memory that is not there,
// maybe after it has done something. So the first message of such a call has the device do the whole
// call on the caller's own memory; the messages that follow are answered from what that has done.

internal import FrontEnd
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// The cut calls of one open file.
final class SplitTransfers: Sendable {
  /// What a call has done, of which messages are still to come.
  private struct Call {
    let transfer: Transfer
    let done: Int
  }

  /// By thread. What a killed thread leaves is replaced by the first cut call of the next one with
  /// its number.
  private let calls = Mutex<[Int32: Call]>([:])
  private static let limit = 256

  /// The answer to a message about `count` bytes after the first `start` of `thread`'s call.
  /// - Parameter run: has the device do the call as a whole.
  func answer(
    to thread: Int32, _ count: Int, after start: Int,
    run: () throws(Errno) -> (transfer: Transfer, done: Int)
  ) throws(Errno) -> (transfer: Transfer, count: Int) {
    let call: Call
    if start == 0 {
      let result = try run()
      call = Call(transfer: result.transfer, done: result.done)
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
  /// Fills `buffer` with the bytes after the first `start`.
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
