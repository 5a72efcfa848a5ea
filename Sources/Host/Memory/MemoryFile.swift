internal import CLinux
internal import Glibc
package import SystemPackage

/// memfd_create(2).
package enum MemoryFile {
  /// A new, zeroed, close-on-exec memory file that can be sealed. The caller owns the descriptor.
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
