// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization

/// The device numbers (st_rdev) of this server's nodes. ``DescriptorLookup`` sends its private
/// ioctl only to files on these nodes.
final class ServedNodes: Sendable {
  private let numbers = Mutex<Set<UInt>>([])

  func insert(deviceNumber: UInt) {
    numbers.withLock { _ = $0.insert(deviceNumber) }
  }

  /// Whether `descriptor` is an open file of one of the nodes.
  func isFileOfNode(_ descriptor: Int32) -> Bool {
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFCHR else {
      return false
    }
    return numbers.withLock { $0.contains(UInt(status.st_rdev)) }
  }
}
