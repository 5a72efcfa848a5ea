internal import CLinux
internal import Glibc
package import SystemPackage

/// A file, whatever its names and descriptors: the device it is on and its inode number there.
/// Meaningful only while something keeps the inode from being freed.
package struct FileIdentity: Hashable, Sendable {
  package let device: UInt64
  package let inode: UInt64

  package init(device: UInt64, inode: UInt64) {
    self.device = device
    self.inode = inode
  }

  /// The device as /proc writes it, major and minor apart; stat(2) packs them into one number.
  init(major: UInt32, minor: UInt32, inode: UInt64) {
    let (major, minor) = (UInt64(major), UInt64(minor))
    device = minor & 0xff | (major & 0xfff) << 8 | (minor & ~0xff) << 12 | (major & ~0xfff) << 32
    self.inode = inode
  }

  /// Not on one of the devices without storage that memory and network file systems make up.
  package var isOnBlockDevice: Bool { device >> 8 & 0xfff != 0 || device >> 44 != 0 }
}

/// What fstat(2) and fstatfs(2) say of an open file, as far as pinning its pages asks.
package struct FileStatus: Sendable {
  package let identity: FileIdentity
  package let size: UInt64
  /// Some pages are not allocated yet.
  package let hasHoles: Bool
  private let isRegular: Bool
  private let descriptor: OwnedDescriptor

  package init(of descriptor: OwnedDescriptor) throws(Errno) {
    var status = stat()
    guard fstat(descriptor.rawValue, &status) == 0 else { throw Errno(rawValue: errno) }
    identity = FileIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    size = UInt64(clamping: status.st_size)
    hasHoles = UInt64(clamping: status.st_blocks) &* 512 < size
    isRegular = status.st_mode & S_IFMT == S_IFREG
    self.descriptor = descriptor
  }

  /// The file's pages *are* its storage (tmpfs, memfd, shared anonymous memory, hugetlbfs): there
  /// is no disk that they are a cache of.
  package var isMemory: Bool {
    // TMPFS_MAGIC, HUGETLBFS_MAGIC (linux/magic.h)
    isRegular
      && [0x0102_1994, 0x9584_58f6].contains(CLinux_file_system_type(descriptor.rawValue))
  }

  /// The bytes of the pages that can be accessed.
  package var wholeSize: UInt64 { (size + 4095) & ~4095 }
}
