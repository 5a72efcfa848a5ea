// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The result of stat(2) for a device node or for a directory above one.
struct NodeStatus {
  /// S_IFCHR or S_IFDIR, and the permissions.
  let mode: UInt32
  let inode: UInt64
  let links: UInt32
  /// st_rdev.
  let major: UInt32
  let minor: UInt32

  init(of node: DeviceNode) {
    mode = UInt32(S_IFCHR) | 0o666
    (major, minor) = (node.major, node.minor)
    inode = 1 + UInt64(node.minor)
    links = 1
  }

  /// The status of a directory under /dev.
  static let directory = NodeStatus(mode: UInt32(S_IFDIR) | 0o755, inode: 1 << 20, links: 2)

  private init(mode: UInt32, inode: UInt64, links: UInt32) {
    self.mode = mode
    self.inode = inode
    self.links = links
    (major, minor) = (0, 0)
  }

  private static let blockSize: UInt32 = 4096
  /// STATX_BASIC_STATS
  private static let basicStatistics: UInt32 = 0x7ff

  /// new_encode_dev(): 12 bits of major between 8 and 12 bits of minor.
  private var encodedDevice: UInt32 { (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12) }

  /// struct stat (struct stat64 on i386), as the kernel stores it.
  func bytes(for architecture: Architecture) -> [UInt8] {
    switch architecture {
    case .x8664:
      var buffer = StatusBuffer(size: 144)
      buffer.store(inode, at: 8)
      buffer.store(UInt64(links), at: 16)
      buffer.store(mode, at: 24)
      buffer.store(UInt64(encodedDevice), at: 40)
      buffer.store(UInt64(Self.blockSize), at: 56)
      return buffer.bytes
    case .i386:
      var buffer = StatusBuffer(size: 96)
      buffer.store(UInt32(truncatingIfNeeded: inode), at: 12)
      buffer.store(mode, at: 16)
      buffer.store(links, at: 20)
      buffer.store(UInt64(encodedDevice), at: 32)
      buffer.store(Self.blockSize, at: 52)
      buffer.store(inode, at: 88)
      return buffer.bytes
    case .aarch64:
      var buffer = StatusBuffer(size: 128)
      buffer.store(inode, at: 8)
      buffer.store(mode, at: 16)
      buffer.store(links, at: 20)
      buffer.store(UInt64(encodedDevice), at: 32)
      buffer.store(Self.blockSize, at: 56)
      return buffer.bytes
    }
  }

  /// struct statx, which is the same on all architectures.
  var extendedBytes: [UInt8] {
    var buffer = StatusBuffer(size: 256)
    buffer.store(Self.basicStatistics, at: 0)
    buffer.store(Self.blockSize, at: 4)
    buffer.store(links, at: 16)
    buffer.store(UInt16(mode), at: 28)
    buffer.store(inode, at: 32)
    buffer.store(major, at: 128)
    buffer.store(minor, at: 132)
    return buffer.bytes
  }
}

/// The bytes of a C structure. Fields that are not stored are zero.
private struct StatusBuffer {
  private(set) var bytes: [UInt8]

  init(size: Int) {
    bytes = [UInt8](repeating: 0, count: size)
  }

  mutating func store<T: FixedWidthInteger>(_ value: T, at offset: Int) {
    bytes.withUnsafeMutableBytes { bytes in
      bytes.storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
    }
  }
}
