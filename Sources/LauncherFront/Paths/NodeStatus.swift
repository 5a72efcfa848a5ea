// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc

/// The result of stat(2) for a file of this server.
struct NodeStatus {
  /// The type and the permissions.
  let mode: UInt32
  let inode: UInt64
  let links: UInt32
  /// st_dev, as the C library packs it.
  let device: UInt64
  /// st_rdev.
  let special: DeviceNumber
  let attributes: FileAttributes

  /// The status of a node or directory of the tree.
  init(of entry: VirtualEntry) {
    attributes = entry.attributes
    let type = entry.isDirectory ? S_IFDIR : S_IFCHR
    mode = UInt32(type) | attributes.permissions
    inode = entry.inode
    links = entry.isDirectory ? 2 + UInt32(entry.children.count(where: \.isDirectory)) : 1
    device = Self.devicesDirectory
    special =
      entry.node.map { DeviceNumber(major: $0.major, minor: $0.minor) }
      ?? DeviceNumber(major: 0, minor: 0)
  }

  /// The status of a file that a device has made, on an anonymous inode (anon_inode_getattr()).
  init(anonymousWithInode inode: UInt64) {
    attributes = FileAttributes(permissions: 0o600)
    mode = attributes.permissions
    self.inode = inode
    links = 1
    device = Self.anonymousInodes
    special = DeviceNumber(major: 0, minor: 0)
  }

  /// st_dev of /dev.
  private static let devicesDirectory: UInt64 = {
    var file = CLinux_file()
    return CLinux_lstat("/dev", &file) == 0 ? file.device : 5
  }()

  /// st_dev of anonymous inodes.
  private static let anonymousInodes: UInt64 = {
    let descriptor = CLinux_epoll_create()
    defer { if descriptor >= 0 { close(descriptor) } }
    var file = CLinux_file()
    return descriptor >= 0 && CLinux_fstat(descriptor, &file) == 0 ? file.device : 15
  }()

  private static let blockSize: UInt32 = 4096
  /// STATX_BASIC_STATS
  private static let basicStatistics: UInt32 = 0x7ff

  /// struct stat (struct stat64 on i386), as the kernel stores it.
  func bytes(for architecture: Architecture) -> [UInt8] {
    switch architecture {
    case .x8664:
      var buffer = StatusBuffer(size: 144)
      buffer.store(device, at: 0)
      buffer.store(inode, at: 8)
      buffer.store(UInt64(links), at: 16)
      buffer.store(mode, at: 24)
      buffer.store(attributes.user, at: 28)
      buffer.store(attributes.group, at: 32)
      buffer.store(special.encoded, at: 40)
      buffer.store(UInt64(Self.blockSize), at: 56)
      storeTimes(at: 72, in: &buffer, as: Int64.self)
      return buffer.bytes
    case .i386:
      var buffer = StatusBuffer(size: 96)
      buffer.store(device, at: 0)
      buffer.store(UInt32(truncatingIfNeeded: inode), at: 12)
      buffer.store(mode, at: 16)
      buffer.store(links, at: 20)
      buffer.store(attributes.user, at: 24)
      buffer.store(attributes.group, at: 28)
      buffer.store(special.encoded, at: 32)
      buffer.store(Self.blockSize, at: 52)
      storeTimes(at: 64, in: &buffer, as: Int32.self)
      buffer.store(inode, at: 88)
      return buffer.bytes
    case .aarch64:
      var buffer = StatusBuffer(size: 128)
      buffer.store(device, at: 0)
      buffer.store(inode, at: 8)
      buffer.store(mode, at: 16)
      buffer.store(links, at: 20)
      buffer.store(attributes.user, at: 24)
      buffer.store(attributes.group, at: 28)
      buffer.store(special.encoded, at: 32)
      buffer.store(Self.blockSize, at: 56)
      storeTimes(at: 72, in: &buffer, as: Int64.self)
      return buffer.bytes
    }
  }

  /// Stores the seconds and nanoseconds of the three times from `offset` on, each as `T`.
  private func storeTimes<T: FixedWidthInteger>(
    at offset: Int, in buffer: inout StatusBuffer, as type: T.Type
  ) {
    let size = MemoryLayout<T>.size
    let times = [attributes.accessTime, attributes.modificationTime, attributes.changeTime]
    for (index, time) in times.enumerated() {
      buffer.store(T(truncatingIfNeeded: time.tv_sec), at: offset + 2 * size * index)
      buffer.store(T(truncatingIfNeeded: time.tv_nsec), at: offset + 2 * size * index + size)
    }
  }

  /// struct statx, which is the same on all architectures.
  var extendedBytes: [UInt8] {
    var buffer = StatusBuffer(size: 256)
    buffer.store(Self.basicStatistics, at: 0)
    buffer.store(Self.blockSize, at: 4)
    buffer.store(links, at: 16)
    buffer.store(attributes.user, at: 20)
    buffer.store(attributes.group, at: 24)
    buffer.store(UInt16(mode), at: 28)
    buffer.store(inode, at: 32)
    // stx_atime, stx_btime, stx_ctime, stx_mtime
    let times = [(64, attributes.accessTime), (96, attributes.changeTime)]
    for (offset, time) in times + [(112, attributes.modificationTime)] {
      buffer.store(Int64(time.tv_sec), at: offset)
      buffer.store(UInt32(time.tv_nsec), at: offset + 8)
    }
    buffer.store(special.major, at: 128)
    buffer.store(special.minor, at: 132)
    buffer.store(UInt32(device >> 8 & 0xfff), at: 136)
    buffer.store(UInt32(device & 0xff | device >> 12 & 0xf_ff00), at: 140)
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
