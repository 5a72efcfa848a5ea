// One mm of another process, held so that it can never be mistaken for a different one.
//
// The handles are an open /proc/<pid>/mem and an open /proc/<pid>/maps: the kernel ties those files
// to the mm they were opened on, not to the pid. After exec or exit they read 0 bytes for ever; a
// new process with the same pid is a different file. Access ignores page protection (FOLL_FORCE),
// as DMA to a pinned page does.

internal import CLinux
internal import Glibc
package import SystemPackage

package final class AddressSpace: Sendable {
  /// The process the address space was opened on. Only for /proc look-ups made while a call of
  /// that process is being served; never an identity.
  package let processID: Int32
  /// /proc/<pid>/mem.
  let memory: OwnedDescriptor
  /// /proc/<pid>/maps, for ``area(containing:)``.
  let maps: OwnedDescriptor

  /// Opens the address space of the process that `task` belongs to.
  /// - Throws: `.permissionDenied` / `.notPermitted` without ptrace rights, `.noSuchProcess`.
  package init(of task: HostTask) throws(Errno) {
    processID = try task.processID()
    memory = try ProcFile.open("/proc/\(task.id)/mem", O_RDWR)
    maps = try ProcFile.open("/proc/\(task.id)/maps", O_RDONLY)
  }

  /// Whether the mm is gone: its last process has ended or executed another program. An address that
  /// is merely unmapped fails with EIO; only a dead mm reads as an empty file.
  package var isGone: Bool {
    var byte: UInt8 = 0
    return pread(memory.rawValue, &byte, 1, 0) == 0
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

  /// Makes `count` pages from `address` on present, by reading a byte of each.
  /// - Returns: false when one cannot be read.
  package func touch(at address: UInt64, pages count: UInt64) -> Bool {
    var byte: UInt8 = 0
    for index in 0..<count {
      let address = address &+ index &* 4096
      guard pread(memory.rawValue, &byte, 1, off_t(truncatingIfNeeded: address)) == 1 else {
        return false
      }
    }
    return true
  }
}
