// A client's eventfd as the kernel holds it (struct eventfd_ctx): the counter, not the number. The
// client may close its descriptor; what was handed over keeps working.

package import Host
internal import Glibc
package import SystemPackage
package import UAPI

package final class EventDescriptor: Sendable {
  private let descriptor: OwnedDescriptor

  /// Takes the client's descriptor `number` (eventfd_ctx_fdget()).
  /// - Throws: `.badFileDescriptor`; `.invalidArgument` when it is open but no eventfd.
  package init(_ number: Int32, of client: any Client) throws(Errno) {
    let descriptor = try client.duplicateDescriptor(number)
    guard Self.isEventDescriptor(descriptor) else { throw .invalidArgument }
    self.descriptor = descriptor
  }

  package var rawValue: Int32 { descriptor.rawValue }

  /// Adds 1 to the counter (eventfd_signal()). A counter at its limit stays there: the client who
  /// filled it cannot make this server wait.
  package func signal() {
    var poll = pollfd(fd: rawValue, events: Int16(POLLOUT), revents: 0)
    guard Glibc.poll(&poll, 1, 0) == 1, poll.revents & Int16(POLLOUT) != 0 else { return }
    var one: UInt64 = 1
    _ = Glibc.write(rawValue, &one, MemoryLayout.size(ofValue: one))
  }

  /// Reads the counter back to 0 without ever blocking (eventfd_ctx_do_read()).
  /// - Returns: whether it was above 0.
  package func consume() -> Bool {
    var count: UInt64 = 0
    return withUnsafeMutableBytes(of: &count) { bytes in
      var vector = iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
      return preadv2(rawValue, &vector, 1, -1, Self.noWait) == bytes.count
    }
  }

  /// RWF_NOWAIT: the flag of one read, where O_NONBLOCK would change the client's own descriptor.
  private static let noWait: Int32 = 8

  private static func isEventDescriptor(_ descriptor: OwnedDescriptor) -> Bool {
    let name = "anon_inode:[eventfd]"
    var target = [UInt8](repeating: 0, count: name.utf8.count + 1)
    let count = readlink("/proc/self/fd/\(descriptor.rawValue)", &target, target.count)
    return count == name.utf8.count && target.prefix(count).elementsEqual(name.utf8)
  }
}
