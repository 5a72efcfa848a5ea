// SPDX-License-Identifier: Apache-2.0

// The trace of `run --trace`: one line per answered call, in the format of strace(1) as far as it
// fits one line. An ioctl shows the fields of its struct as the program passed them and, after the
// result, the fields that the call changed.

internal import FrontEnd
internal import Host
internal import Synchronization
package import SystemPackage
internal import UAPI

package final class CallTrace: Sendable {
  private let descriptor: FileDescriptor
  /// Held while a line is written, so that lines of several threads do not mix.
  private let lock = Mutex(())

  package init(to descriptor: FileDescriptor) { self.descriptor = descriptor }

  /// A call that is being answered.
  struct Entry {
    let call: TrappedCall
    /// The path that is opened, or the path of the node behind the descriptor. "queue" for a queue
    /// or a virtual file. `nil` when the call is not about a file of this server.
    let subject: String?
    let ioctl: IoctlTrace?
    let began = ContinuousClock.now

    /// - Parameter ioctls: the ioctls of the file behind the descriptor. `nil` when the call is not
    ///   about a file of this server.
    init(
      _ call: TrappedCall, subject: String?, ioctls: IoctlTable?, memory: any UserMemory
    ) {
      (self.call, self.subject) = (call, subject)
      ioctl =
        call.systemCall == .ioctl
        ? IoctlTrace(call.word(1), argument: call[2], from: ioctls, in: memory) : nil
    }
  }

  /// Writes the line of a call.
  func record(_ entry: Entry, _ answer: Answer) {
    let time = (ContinuousClock.now - entry.began).components
    let microseconds = time.seconds * 1_000_000 + time.attoseconds / 1_000_000_000_000
    let line =
      "[\(entry.call.task.id)] \(entry.call.systemCall.rawValue)(\(arguments(of: entry)))"
      + " = \(Self.describe(answer))\(entry.ioctl?.changes() ?? "") <\(microseconds) us>\n"
    lock.withLock { _ in _ = try? descriptor.writeAll(line.utf8) }
  }

  private func arguments(of entry: Entry) -> String {
    let call = entry.call
    let file = "\(call.descriptor(0))" + (entry.subject.map { "<\($0)>" } ?? "")
    switch call.systemCall {
    case .ioctl:
      return "\(file), \(entry.ioctl?.arguments ?? "")"
    case .pread, .preadv, .preadv2, .pwrite, .pwritev, .pwritev2:
      return
        "\(file), \(Self.hex(call[1])), \(call[2]), \(Self.hex(call.offset(3)))"
    case .read, .readv, .write, .writev:
      return "\(file), \(Self.hex(call[1])), \(call[2])"
    case .creat, .open, .openat, .openat2:
      return "\"\(entry.subject ?? "?")\""
    default:
      return "\(Self.hex(call[0])), \(Self.hex(call[1])), \(Self.hex(call[2]))"
    }
  }

  private static func describe(_ answer: Answer) -> String {
    switch answer {
    case .value(let value): "\(value)"
    case .failure(let error): "-1 \(error.symbol)"
    case .sent: ""
    case .native: "?"
    }
  }

  private static func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
}
