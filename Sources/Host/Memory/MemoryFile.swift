// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
package import SystemPackage

/// Files made by memfd_create(2).
package enum MemoryFile {
  /// Makes a memfd of `length` zero bytes that is close-on-exec and can be sealed.
  /// - Returns: the descriptor, which the caller owns.
  /// - Throws: the errno of memfd_create(2) or ftruncate(2).
  package static func create(name: String, length: UInt64) throws(Errno) -> Int32 {
    let descriptor = CLinux_memfd_create(
      name, UInt32(CLinux_MFD_CLOEXEC | CLinux_MFD_ALLOW_SEALING))
    guard descriptor >= 0 else { throw Errno(rawValue: -descriptor) }
    guard ftruncate(descriptor, off_t(truncatingIfNeeded: length)) == 0 else {
      let error = Errno(rawValue: errno)
      close(descriptor)
      throw error
    }
    return descriptor
  }
}
