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
