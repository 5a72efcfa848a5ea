// "Which of our open files is descriptor N of the client?"
//
// The server copies the descriptor and asks the copy: a private ioctl on it arrives as a message
// that carries the open file's handle. The message's sender is one of our own threads, which the
// kernel writes and nobody can forge; only a thread that is registered as asking gets an answer.

internal import CLinux
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

final class Identification: Sendable {
  /// `_IO('S', 0x49)`, a number no device of ours has.
  static let request: UInt32 = 0x5349

  /// By thread of this server: nil until the answer is there.
  private let asking = Mutex<[Int32: ServedFile?]>([:])

  /// The open file behind `copy`, a descriptor of one of this server's nodes.
  ///
  /// Waits for a message to this server: only on behalf of calls that the ``CallGate`` admitted, and
  /// only in an ``OwnTable``.
  func openFile(behind copy: OwnedDescriptor) -> ServedFile? {
    let thread = CLinux_gettid()
    asking.withLock { $0[thread] = .some(nil) }
    _ = CLinux_ioctl(copy.rawValue, UInt(Self.request), 0)
    return asking.withLock { $0.removeValue(forKey: thread) ?? nil }
  }

  /// A message with ``request`` for `file` has come from `thread`.
  /// - Returns: whether it was one of our questions.
  func answer(_ file: ServedFile, to thread: Int32) -> Bool {
    asking.withLock { asking in
      guard asking.keys.contains(thread) else { return false }
      asking[thread] = file
      return true
    }
  }
}
