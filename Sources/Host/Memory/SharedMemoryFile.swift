// SPDX-License-Identifier: Apache-2.0

// A client's shared-memory file (tmpfs, memfd, hugetlbfs), whose pages this server maps and
// accesses.

internal import CLinux
internal import Glibc
package import SystemPackage

package struct SharedMemoryFile: Sendable {
  package let identity: FileIdentity
  /// Whether pages can be mapped for writing: the descriptor is open for reading and writing, and
  /// no seal forbids it.
  package let isWritable: Bool
  /// Bytes that can only be mapped together: 4096, or the size of a huge page.
  package let pageSize: Int
  private let descriptor: OwnedDescriptor

  /// Reads the status of the file. The system calls may wait for the process that serves the file
  /// system, so the caller holds no lock.
  /// - Throws: `.invalidArgument` for files that are not shared memory (Linux: memfd_pin_folios()).
  package init(_ descriptor: OwnedDescriptor) throws(Errno) {
    guard let pageSize = try MemoryFileSystem.pageSize(of: descriptor) else {
      throw .invalidArgument
    }
    var status = stat()
    guard fstat(descriptor.rawValue, &status) == 0 else { throw Errno(rawValue: errno) }
    identity = FileIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    isWritable = descriptor.isWritable && !descriptor.isSealedAgainstWriting
    self.pageSize = pageSize
    self.descriptor = descriptor
  }

  /// Maps `count` bytes of the file from `offset` on at `address`, in place of what is mapped
  /// there.
  /// - Returns: false when mmap(2) fails.
  package func map(at address: UnsafeMutableRawPointer, offset: UInt64, count: Int) -> Bool {
    let protection = isWritable ? PROT_READ | PROT_WRITE : PROT_READ
    let result = mmap(
      address, count, protection, MAP_SHARED | MAP_FIXED, descriptor.rawValue,
      off_t(truncatingIfNeeded: offset))
    return result != MAP_FAILED
  }

  /// pread(2).
  /// - Returns: the bytes read, or -1.
  package func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    pread(
      descriptor.rawValue, buffer.baseAddress, buffer.count, off_t(truncatingIfNeeded: offset))
  }

  /// pwrite(2) of bytes that lie inside the file. Unlike a store, pwrite(2) would extend a file
  /// that was truncated.
  /// - Returns: the bytes written; 0 when some are beyond the end of the file; -1 on failure.
  package func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) -> Int {
    guard let size, offset < size, UInt64(bytes.count) <= size - offset else { return 0 }
    return pwrite(
      descriptor.rawValue, bytes.baseAddress, bytes.count, off_t(truncatingIfNeeded: offset))
  }

  /// The size of the file, rounded up to a whole page. `nil` when fstat(2) fails.
  package var size: UInt64? {
    var status = stat()
    guard fstat(descriptor.rawValue, &status) == 0 else { return nil }
    let mask = UInt64(pageSize - 1)
    return (UInt64(status.st_size) + mask) & ~mask
  }
}

extension OwnedDescriptor {
  // <linux/fcntl.h>: F_GET_SEALS; F_SEAL_WRITE | F_SEAL_FUTURE_WRITE
  private static let getSeals: Int32 = 1034
  private static let writeSeals: Int32 = 0x8 | 0x10

  /// Whether no writable shared mapping of the file can be made any more. Mappings that exist stay
  /// writable.
  package var isSealedAgainstWriting: Bool {
    max(0, fcntl(rawValue, Self.getSeals)) & Self.writeSeals != 0
  }
}
