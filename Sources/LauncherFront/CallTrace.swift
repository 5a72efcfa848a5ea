// `run --trace`: one line per answered call, in strace's spelling as far as a line can have it.

internal import Host
internal import Synchronization
package import SystemPackage

package final class CallTrace: Sendable {
  private let descriptor: FileDescriptor
  private let nameOfRequest: @Sendable (_ request: UInt32, _ path: String?) -> String?
  /// Lines of several threads must not mix.
  private let lock = Mutex(())

  /// - Parameter nameOfRequest: the name of an ioctl on the node at `path`, where it has one.
  package init(
    to descriptor: FileDescriptor,
    nameOfRequest: @escaping @Sendable (_ request: UInt32, _ path: String?) -> String?
  ) {
    self.descriptor = descriptor
    self.nameOfRequest = nameOfRequest
  }

  /// - Parameter subject: the path that is opened, or of the node behind the descriptor.
  func record(
    _ call: TrappedCall, subject: String?, _ answer: Answer, took time: Duration
  ) {
    let microseconds =
      time.components.seconds * 1_000_000 + time.components.attoseconds / 1_000_000_000_000
    let line =
      "[\(call.task.id)] \(call.operation.rawValue)(\(arguments(of: call, subject)))"
      + " = \(Self.describe(answer)) <\(microseconds) us>\n"
    lock.withLock { _ in _ = try? descriptor.writeAll(line.utf8) }
  }

  private func arguments(of call: TrappedCall, _ subject: String?) -> String {
    let file = "\(call.descriptor(0))<\(subject ?? "queue")>"
    switch call.operation {
    case .ioctl:
      let request = nameOfRequest(call.word(1), subject) ?? Self.hex(UInt64(call.word(1)))
      return "\(file), \(request), \(Self.hex(call[2]))"
    case .pread, .preadv, .preadv2, .pwrite, .pwritev, .pwritev2:
      return
        "\(file), \(Self.hex(call[1])), \(call[2]), \(Self.hex(call.offset(3)))"
    case .read, .readv, .write, .writev:
      return "\(file), \(Self.hex(call[1])), \(call[2])"
    case .open, .openat, .openat2:
      return "\"\(subject ?? "?")\""
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
