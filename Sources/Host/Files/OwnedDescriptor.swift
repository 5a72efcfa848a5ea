internal import Glibc
package import SystemPackage

/// A file descriptor of this process, closed when the last reference to it goes.
package final class OwnedDescriptor: Sendable {
  package let rawValue: Int32
  private let close: (@Sendable (Int32) -> Void)?

  /// Takes ownership of an open descriptor.
  package init(owning rawValue: Int32) {
    self.rawValue = rawValue
    close = nil
  }

  /// Takes ownership of an open descriptor whose close(2) may wait for this server itself: instead
  /// of closing it in place, the last reference hands it to `close`.
  package init(owning rawValue: Int32, closedBy close: (@Sendable (Int32) -> Void)?) {
    self.rawValue = rawValue
    self.close = close
  }

  /// Takes ownership of a `CLinux_…` result: a descriptor, or -errno, which is thrown.
  package convenience init(
    checking result: Int32, closedBy close: (@Sendable (Int32) -> Void)? = nil
  ) throws(Errno) {
    guard result >= 0 else { throw Errno(rawValue: -result) }
    self.init(owning: result, closedBy: close)
  }

  /// Opened with O_PATH: good for naming the file, not for using it.
  package var isPathOnly: Bool {
    let flags = fcntl(rawValue, F_GETFL)
    return flags >= 0 && flags & 0o10000000 != 0
  }

  package var isWritable: Bool {
    let flags = fcntl(rawValue, F_GETFL)
    return flags >= 0 && flags & O_ACCMODE == O_RDWR
  }

  deinit {
    if let close { close(rawValue) } else { Glibc.close(rawValue) }
  }
}
