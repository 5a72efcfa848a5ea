// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
package import SystemPackage

/// A file descriptor of this process that is closed with the last reference to the object.
package final class OwnedDescriptor: Sendable {
  package let rawValue: Int32
  private let close: (@Sendable (Int32) -> Void)?
  private let charge: ChargedShares.Charge?

  /// Takes ownership of an open descriptor.
  package init(owning rawValue: Int32) {
    self.rawValue = rawValue
    close = nil
    charge = nil
  }

  /// Takes ownership of an open descriptor whose close(2) may wait for this server itself. The
  /// object passes the descriptor to `close` instead of closing it.
  /// - Parameter charge: the charge for the descriptor, which ends with the object.
  package init(
    owning rawValue: Int32, closedBy close: (@Sendable (Int32) -> Void)?,
    charge: ChargedShares.Charge? = nil
  ) {
    self.rawValue = rawValue
    self.close = close
    self.charge = charge
  }

  /// Takes ownership of the result of a `CLinux_…` function, which is a descriptor or -errno.
  /// - Throws: the errno.
  package convenience init(
    checking result: Int32, closedBy close: (@Sendable (Int32) -> Void)? = nil,
    charge: ChargedShares.Charge? = nil
  ) throws(Errno) {
    guard result >= 0 else { throw Errno(rawValue: -result) }
    self.init(owning: result, closedBy: close, charge: charge)
  }

  /// Whether the file was opened with O_PATH, so that it cannot be read, written or mapped.
  package var isPathOnly: Bool {
    let flags = fcntl(rawValue, F_GETFL)
    return flags >= 0 && flags & 0o10000000 != 0
  }

  /// Whether the file was opened with O_RDWR.
  package var isWritable: Bool {
    let flags = fcntl(rawValue, F_GETFL)
    return flags >= 0 && flags & O_ACCMODE == O_RDWR
  }

  deinit {
    if let close { close(rawValue) } else { Glibc.close(rawValue) }
  }
}

extension OwnedDescriptor {
  /// A descriptor of the same file that is open for reading and writing: this one, or a new one.
  /// `nil` when the file cannot be opened so.
  package func reopenedForWriting() -> OwnedDescriptor? {
    if isWritable { return self }
    return try? ProcFile.open("/proc/self/fd/\(rawValue)", O_RDWR | O_NONBLOCK)
  }

  /// Allocates the holes of `range`, which lies in the file, so that no later access finds the file
  /// system full. Does nothing when the file is not open for writing: the first access to a page
  /// allocates it then.
  /// - Throws: `.noSpace`, also when there are too few huge pages; `.noMemory`.
  package func allocate(_ range: Range<UInt64>) throws(Errno) {
    let length = range.upperBound - range.lowerBound
    while true {
      switch CLinux_fallocate(rawValue, range.lowerBound, length) {
      case -EINTR: continue
      case -ENOSPC: throw .noSpace
      case -ENOMEM: throw .noMemory
      default: return
      }
    }
  }
}
