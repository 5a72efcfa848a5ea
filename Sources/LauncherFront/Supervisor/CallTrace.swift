// `run --trace`: one line per answered call, in strace's spelling as far as a line can have it. Of an
// ioctl's struct it has the fields as the program gave them, and behind the answer those that the call changed.

internal import Host
internal import Synchronization
package import SystemPackage
internal import UAPI

package final class CallTrace: Sendable {
  private let descriptor: FileDescriptor
  /// Lines of several threads must not mix.
  private let lock = Mutex(())

  package init(to descriptor: FileDescriptor) { self.descriptor = descriptor }

  /// A call that is being answered.
  struct Entry {
    let call: TrappedCall
    /// The path that is opened, or of the node behind the descriptor.
    let subject: String?
    let memory: any UserMemory
    let ioctl: Ioctl?
    let before: IoctlSnapshot?
    let began = ContinuousClock.now

    /// - Parameter ioctls: those of the file behind the descriptor; `nil` when it is not ours.
    init(
      _ call: TrappedCall, subject: String?, ioctls: IoctlTable?, memory: any UserMemory
    ) {
      (self.call, self.subject, self.memory) = (call, subject, memory)
      ioctl =
        call.operation == .ioctl ? ioctls?[IoctlNumber(rawValue: call.word(1))] : nil
      before = ioctl?.snapshot(at: call[2], in: memory)
    }

    fileprivate var changes: String {
      guard let before, let after = ioctl?.snapshot(at: call[2], in: memory) else { return "" }
      return after.changes(since: before)
    }
  }

  func record(_ entry: Entry, _ answer: Answer) {
    let time = (ContinuousClock.now - entry.began).components
    let microseconds = time.seconds * 1_000_000 + time.attoseconds / 1_000_000_000_000
    let line =
      "[\(entry.call.task.id)] \(entry.call.operation.rawValue)(\(arguments(of: entry)))"
      + " = \(Self.describe(answer))\(entry.changes) <\(microseconds) us>\n"
    lock.withLock { _ in _ = try? descriptor.writeAll(line.utf8) }
  }

  private func arguments(of entry: Entry) -> String {
    let call = entry.call
    let file = "\(call.descriptor(0))" + (entry.subject.map { "<\($0)>" } ?? "")
    switch call.operation {
    case .ioctl:
      let request = entry.ioctl?.name ?? Self.hex(UInt64(call.word(1)))
      return "\(file), \(request), \(entry.before?.text ?? Self.hex(call[2]))"
    case .pread, .preadv, .preadv2, .pwrite, .pwritev, .pwritev2:
      return
        "\(file), \(Self.hex(call[1])), \(call[2]), \(Self.hex(call.offset(3)))"
    case .read, .readv, .write, .writev:
      return "\(file), \(Self.hex(call[1])), \(call[2])"
    case .open, .openat, .openat2:
      return "\"\(entry.subject ?? "?")\""
    default:
      return "\(Self.hex(call[0])), \(Self.hex(call[1])), \(Self.hex(call[2]))"
    }
  }

  private static func describe(_ answer: Answer) -> String {
    switch answer {
    case .value(let value): "\(value)"
    case .failure(let error): "-1 \(error.symbol)"
    case .native: "?"
    }
  }

  private static func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
}
