// SPDX-License-Identifier: Apache-2.0

/// The device number and inode number of a file. They identify the file while something keeps the
/// inode from being freed; afterwards another file may get the same numbers.
package struct FileIdentity: Hashable, Sendable {
  package let device: UInt64
  package let inode: UInt64

  package init(device: UInt64, inode: UInt64) {
    self.device = device
    self.inode = inode
  }

  /// - Parameters:
  ///   - major: the device number as /proc/<pid>/maps shows it. st_dev of stat(2) packs major and
  ///     minor number into one.
  ///   - minor: see `major`.
  init(major: UInt32, minor: UInt32, inode: UInt64) {
    let (major, minor) = (UInt64(major), UInt64(minor))
    device = minor & 0xff | (major & 0xfff) << 8 | (minor & ~0xff) << 12 | (major & ~0xfff) << 32
    self.inode = inode
  }
}
