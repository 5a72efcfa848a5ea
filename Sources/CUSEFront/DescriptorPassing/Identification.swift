// "Which of our open files is descriptor N of the client?"
//
// The server copies the descriptor and asks the copy: a private ioctl on it arrives as a message
// that carries the open file's handle. The message's sender is one of our own threads, which the
// kernel writes and nobody can forge; only a thread that is registered as asking gets an answer.
//
// That takes another round trip, on another thread. A file that is named a second time is therefore
// marked (FileMark), and then recognised without asking.

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
  /// only in an ``UnsharedTable``.
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

extension Services {
  /// The open file of this server behind the task's descriptor `number`; nil for others.
  /// - Parameter named: what calls on the same file have named before.
  /// - Throws: as ``HostTask/duplicateDescriptor(_:closedBy:)``.
  func openFile(
    _ number: Int32, of task: HostTask, named: NamedFiles?
  ) throws(Errno) -> ServedFile? {
    let last = named?.file(number)
    if let last, last.mark?.isOn(number, of: task) == true { return last.isUsable ? last : nil }
    let set = last.flatMap { $0.mark == nil ? FileMark.emptySet() : nil }
    let file = try UnsharedTable.run { [self] () throws(Errno) -> ServedFile? in
      let copy = try task.duplicateDescriptor(number)
      guard nodes.contain(copy.rawValue), let file = identification.openFile(behind: copy) else {
        return nil
      }
      if let set, file === last, let own = try? UnsharedTable.copy(of: set.rawValue) {
        file.mark = FileMark(copy.rawValue, in: set, copy: own)
      }
      return file
    }
    if let file { named?.note(file, as: number) }
    return file
  }
}

/// The files that descriptor numbers stood for when they were named last: guesses.
final class NamedFiles: Sendable {
  private struct Guess {
    weak var file: ServedFile?
  }

  private let guesses = Mutex<[Int32: Guess]>([:])
  private static let limit = 64

  func file(_ number: Int32) -> ServedFile? {
    guesses.withLock { $0[number]?.file }
  }

  func note(_ file: ServedFile, as number: Int32) {
    guesses.withLock { guesses in
      if guesses.count >= Self.limit { guesses.removeAll() }
      guesses[number] = Guess(file: file)
    }
  }
}
