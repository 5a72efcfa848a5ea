// What stat(2) says of a device node or of a directory above one, in the layouts of the ABIs.

internal import Glibc

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

  /// A directory under /dev.
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

  /// struct stat (struct stat64 on i386) as the kernel stores it.
  func bytes(for architecture: Architecture) -> [UInt8] {
    switch architecture {
    case .x8664:
      var layout = Layout(size: 144)
      layout.store(inode, at: 8)
      layout.store(UInt64(links), at: 16)
      layout.store(mode, at: 24)
      layout.store(UInt64(encodedDevice), at: 40)
      layout.store(UInt64(Self.blockSize), at: 56)
      return layout.bytes
    case .i386:
      var layout = Layout(size: 96)
      layout.store(UInt32(truncatingIfNeeded: inode), at: 12)
      layout.store(mode, at: 16)
      layout.store(links, at: 20)
      layout.store(UInt64(encodedDevice), at: 32)
      layout.store(Self.blockSize, at: 52)
      layout.store(inode, at: 88)
      return layout.bytes
    case .aarch64:
      var layout = Layout(size: 128)
      layout.store(inode, at: 8)
      layout.store(mode, at: 16)
      layout.store(links, at: 20)
      layout.store(UInt64(encodedDevice), at: 32)
      layout.store(Self.blockSize, at: 56)
      return layout.bytes
    }
  }

  /// struct statx, one layout for all.
  var extendedBytes: [UInt8] {
    var layout = Layout(size: 256)
    layout.store(Self.basicStatistics, at: 0)
    layout.store(Self.blockSize, at: 4)
    layout.store(links, at: 16)
    layout.store(UInt16(mode), at: 28)
    layout.store(inode, at: 32)
    layout.store(major, at: 128)
    layout.store(minor, at: 132)
    return layout.bytes
  }
}

/// A structure under construction; what is not stored is zero.
private struct Layout {
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
