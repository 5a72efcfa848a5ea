// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import SystemPackage

/// The results of fstat(2) and fstatfs(2) for an open file that pinning its pages depends on.
package struct FileStatus: Sendable {
  package let identity: FileIdentity
  package let size: UInt64
  /// Whether some pages are not allocated yet.
  package let hasHoles: Bool
  private let isRegular: Bool
  private let descriptor: OwnedDescriptor

  /// - Throws: the errno of fstat(2).
  package init(of descriptor: OwnedDescriptor) throws(Errno) {
    var status = stat()
    guard fstat(descriptor.rawValue, &status) == 0 else { throw Errno(rawValue: errno) }
    identity = FileIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    size = UInt64(clamping: status.st_size)
    hasHoles = UInt64(clamping: status.st_blocks) &* 512 < size
    isRegular = status.st_mode & S_IFMT == S_IFREG
    self.descriptor = descriptor
  }

  /// Whether the file's pages can only be mapped as parts of huge pages.
  package var hasHugePages: Bool {
    (try? MemoryFileSystem.pageSize(of: descriptor)).flatMap { $0 } ?? 0 > 4096
  }

  /// Whether the file's pages are its storage, see ``MemoryFileSystem``.
  package var isMemory: Bool {
    isRegular && (try? MemoryFileSystem.pageSize(of: descriptor)) != nil
  }

  /// The size of the file, rounded up to whole pages of 4 KiB: the bytes of a mapping that can be
  /// accessed.
  package var wholeSize: UInt64 { (size + 4095) & ~4095 }
}
