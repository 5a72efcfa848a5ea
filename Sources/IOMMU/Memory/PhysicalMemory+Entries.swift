// Entries of tables that are in another process, or in a file that is not mapped here.

internal import Synchronization

extension PhysicalMemory {
  /// Stores `new` at `physical`, a multiple of 8, if the word there still is `old`; for frames reached by
  /// system calls. Updates of the same owner's memory exclude each other, so that walkers never
  /// lose each other's flags; the owner itself cannot be excluded, so only bytes that differ are
  /// stored.
  func updateRemote(
    _ physical: PhysicalAddress, from old: UInt64, to new: UInt64
  ) -> EntryUpdate {
    let place = Int(physical.rawValue >> UInt64(Frame.chunkShift))
    guard let lock = directory.withLock({ $0.chunks[place]?.entries }) else { return .failed }
    return lock.mutex.withLock { _ in
      guard let current = word(at: physical) else { return .failed }
      guard current == old else { return .changed }
      let difference = old ^ new
      guard difference != 0 else { return .stored }
      let first = difference.trailingZeroBitCount / 8
      let end = 8 - difference.leadingZeroBitCount / 8
      let outcome = withUnsafeBytes(of: new.littleEndian) { bytes in
        write(
          UnsafeRawBufferPointer(rebasing: bytes[first..<end]),
          to: PhysicalAddress(physical.rawValue + UInt64(first)))
      }
      return outcome == .done ? .stored : .failed
    }
  }
}

/// Held while an entry is looked at and stored. One for each chunk, which has one owner: an owner
/// whose memory stalls delays nobody else.
final class EntryLock: Sendable {
  let mutex = Mutex<Void>(())
}
