// A thread of another process, as this server's own kernel shows it: its memory, its descriptors,
// its limits. Everything here is a plain system call on the host; nothing knows of iommufd.
//
// Task ids are recycled by the kernel. A `HostTask` is therefore only used while the thread is
// known to be blocked in the call that is being served (CUSE), or is checked afterwards with the
// transport's own validity test (seccomp's NOTIF_ID_VALID). What must outlive the call is kept as
// an `AddressSpace` or a descriptor, which cannot change meaning.

internal import CLinux
internal import Glibc
package import SystemPackage

package struct HostTask: Sendable, Hashable {
  /// The thread id, in this server's pid namespace.
  package let id: Int32

  package init(id: Int32) {
    self.id = id
  }

  /// Fills `buffer` from the task's memory at `address`.
  ///
  /// Bytes before the first inaccessible page are transferred, as copy_from_user() does.
  /// - Throws: `.badAddress` when any byte cannot be read, `.notPermitted` when this server may not
  ///   access the task, `.noSuchProcess` when it is gone.
  package func read(
    at address: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) {
    guard let base = buffer.baseAddress, buffer.count > 0 else { return }
    let count = CLinux_process_vm_read(id, base, address, buffer.count)
    try Self.expect(count, whole: buffer.count)
  }

  /// ``read(at:into:)``, and in the same call a look at `stamp`.
  /// - Returns: whether it is still there.
  package func read(
    at address: UInt64, into buffer: UnsafeMutableRawBufferPointer, verifying stamp: ExecStamp
  ) throws(Errno) -> Bool {
    var bytes = ExecStamp.Bytes()
    let count = withUnsafeMutableBytes(of: &bytes) {
      CLinux_process_vm_read_two(
        id, buffer.baseAddress, address, buffer.count, $0.baseAddress, stamp.address, $0.count)
    }
    try Self.expect(min(count, buffer.count), whole: buffer.count)
    return count == buffer.count + MemoryLayout<ExecStamp.Bytes>.size && bytes == stamp.bytes
  }

  /// Copies `bytes` to the task's memory at `address`; read-only pages refuse, as copy_to_user().
  /// - Throws: as ``read(at:into:)``. Bytes before the first inaccessible page stay written.
  package func write(_ bytes: UnsafeRawBufferPointer, at address: UInt64) throws(Errno) {
    guard let base = bytes.baseAddress, bytes.count > 0 else { return }
    let count = CLinux_process_vm_write(id, base, address, bytes.count)
    try Self.expect(count, whole: bytes.count)
  }

  private static func expect(_ count: Int, whole: Int) throws(Errno) {
    if count < 0 { throw Errno(rawValue: CInt(-count)) }
    if count < whole { throw .badAddress }
  }

  /// A copy, in this process, of the task's descriptor number `number` (pidfd_getfd(2)).
  /// - Parameter close: see ``OwnedDescriptor/init(owning:closedBy:)``.
  /// - Throws: `.badFileDescriptor` when the task has no such descriptor, `.notPermitted`,
  ///   `.noSuchProcess`.
  package func duplicateDescriptor(
    _ number: Int32, closedBy close: (@Sendable (Int32) -> Void)? = nil
  ) throws(Errno) -> OwnedDescriptor {
    var pidfd = CLinux_pidfd_open(id, true)
    if pidfd == -EINVAL {  // before Linux 6.9 a pidfd names a whole process
      pidfd = CLinux_pidfd_open(try processID(), false)
    }
    let process = try OwnedDescriptor(checking: pidfd)
    return try OwnedDescriptor(
      checking: CLinux_pidfd_getfd(process.rawValue, number), closedBy: close)
  }

  /// The id of the process (thread group) this task belongs to.
  package func processID() throws(Errno) -> Int32 {
    // Only a process's first thread has such a descriptor.
    let pidfd = CLinux_pidfd_open(id, false)
    if pidfd >= 0 {
      Glibc.close(pidfd)
      return id
    }
    let status = try ProcFile.read("/proc/\(id)/status")
    guard let text = ProcFile.field("Tgid", of: status), let value = Int32(text) else {
      throw .noSuchProcess
    }
    return value
  }
}
