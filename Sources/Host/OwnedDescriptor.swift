internal import Glibc
package import SystemPackage

/// A file descriptor of this process, closed when the last reference to it goes.
package final class OwnedDescriptor: Sendable {
  package let rawValue: Int32

  /// Takes ownership of an open descriptor.
  package init(owning rawValue: Int32) {
    self.rawValue = rawValue
  }

  /// Takes ownership of a `CLinux_…` result: a descriptor, or -errno, which is thrown.
  package convenience init(checking result: Int32) throws(Errno) {
    guard result >= 0 else { throw Errno(rawValue: -result) }
    self.init(owning: result)
  }

  /// Opened with O_PATH: good for naming the file, not for using it.
  package var isPathOnly: Bool {
    let flags = fcntl(rawValue, F_GETFL)
    return flags >= 0 && flags & 0o10000000 != 0
  }

  deinit {
    Glibc.close(rawValue)
  }
}
