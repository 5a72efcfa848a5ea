// One mm of another process, held so that it can never be mistaken for a different one.
//
// The handle is an open /proc/<pid>/mem: the kernel ties that file to the mm it was opened on, not
// to the pid. After exec or exit it reads 0 bytes for ever; a new process with the same pid is a
// different file. Access ignores page protection (FOLL_FORCE), as DMA to a pinned page does.

internal import CLinux
internal import Glibc
package import SystemPackage

package final class AddressSpace: Sendable {
  /// The process the address space was opened on. Only for /proc look-ups made while a call of
  /// that process is being served; never an identity.
  package let processID: Int32
  private let memory: OwnedDescriptor

  /// Opens the address space of the process that `task` belongs to.
  /// - Throws: `.permissionDenied` / `.notPermitted` without ptrace rights, `.noSuchProcess`.
  package init(of task: HostTask) throws(Errno) {
    processID = try task.processID()
    let descriptor = Glibc.open("/proc/\(task.id)/mem", O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw errno == ENOENT ? .noSuchProcess : Errno(rawValue: errno)
    }
    memory = OwnedDescriptor(owning: descriptor)
  }

  /// Reads up to `buffer.count` bytes at `address`.
  /// - Returns: the bytes read before the first unmapped page; 0 also when the mm is gone.
  package func read(at address: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    max(
      0,
      pread(memory.rawValue, buffer.baseAddress, buffer.count, off_t(truncatingIfNeeded: address)))
  }

  /// Writes up to `bytes.count` bytes at `address`; result as ``read(at:into:)``.
  package func write(_ bytes: UnsafeRawBufferPointer, at address: UInt64) -> Int {
    max(
      0, pwrite(memory.rawValue, bytes.baseAddress, bytes.count, off_t(truncatingIfNeeded: address))
    )
  }
}
