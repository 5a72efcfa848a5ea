// A client's shared-memory file, as physical memory needs to know it.

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage

struct FileBacking {
  let descriptor: OwnedDescriptor
  let isWritable: Bool
  /// Frames that can only be mapped together: 1, or the pages of one huge page.
  let granule: Int

  /// Looks at the file; may wait for whoever serves the file system, so no lock is held here.
  /// - Throws: `.invalidArgument` for files that are not shared memory, as memfd_pin_folios() does.
  static func inspect(
    _ descriptor: OwnedDescriptor
  ) throws(Errno) -> (backing: FileBacking, owner: ChunkOwner) {
    var (type, blockSize): (Int64, Int64) = (0, 0)
    let result = CLinux_fstatfs(descriptor.rawValue, &type, &blockSize)
    guard result == 0 else { throw Errno(rawValue: -result) }
    let isHuge = type == hugetlbfsMagic
    guard isHuge || type == tmpfsMagic else { throw .invalidArgument }
    var status = stat()
    guard fstat(descriptor.rawValue, &status) == 0 else { throw Errno(rawValue: errno) }
    let flags = fcntl(descriptor.rawValue, F_GETFL)
    let seals = max(0, fcntl(descriptor.rawValue, getSeals))
    let backing = FileBacking(
      descriptor: descriptor,
      isWritable: flags & O_ACCMODE == O_RDWR && seals & writeSeals == 0,
      granule: isHuge ? max(1, Int(blockSize) >> Frame.shift) : 1)
    return (backing, .file(device: UInt64(status.st_dev), inode: UInt64(status.st_ino)))
  }

  /// Puts `count` bytes at `offset` of the file at `address`, which is inside the reservation.
  func map(at address: UnsafeMutableRawPointer, offset: UInt64, count: Int) -> Bool {
    let protection = isWritable ? PROT_READ | PROT_WRITE : PROT_READ
    let result = mmap(
      address, count, protection, MAP_SHARED | MAP_FIXED, descriptor.rawValue,
      off_t(truncatingIfNeeded: offset))
    return result != MAP_FAILED
  }

  func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    pread(
      descriptor.rawValue, buffer.baseAddress, buffer.count, off_t(truncatingIfNeeded: offset))
  }

  /// Writes inside the file only: unlike a store, pwrite(2) would make a truncated file longer.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) -> Int {
    guard let size, offset < size, UInt64(bytes.count) <= size - offset else { return 0 }
    return pwrite(
      descriptor.rawValue, bytes.baseAddress, bytes.count, off_t(truncatingIfNeeded: offset))
  }

  /// The length of the file, up to the next whole page; nil when it cannot be had.
  var size: UInt64? {
    var status = stat()
    guard fstat(descriptor.rawValue, &status) == 0 else { return nil }
    let mask = UInt64(Frame.size * granule - 1)
    return (UInt64(status.st_size) + mask) & ~mask
  }

  // linux/fcntl.h: F_GET_SEALS; F_SEAL_WRITE and F_SEAL_FUTURE_WRITE
  private static let getSeals: Int32 = 1034
  private static let writeSeals: Int32 = 0x8 | 0x10
  // linux/magic.h
  private static let tmpfsMagic: Int64 = 0x0102_1994
  private static let hugetlbfsMagic: Int64 = 0x9584_58f6
}
