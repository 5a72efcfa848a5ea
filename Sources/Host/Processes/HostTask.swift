// SPDX-License-Identifier: Apache-2.0

// A thread of another process on the host: its memory, its file descriptors, its limits. Each
// operation is a system call of the host; nothing here knows iommufd.
//
// The kernel reuses thread IDs. So a `HostTask` is used only while the thread is known to be
// blocked in the call that is being served (CUSE), or its use is followed by the transport's own
// validity check (SECCOMP_IOCTL_NOTIF_ID_VALID). What must outlive the call is kept as an
// `AddressSpace` or a descriptor, which keep referring to the same object.

internal import CLinux
internal import Glibc
package import SystemPackage

/// A call in which a thread is blocked while the server uses the thread.
package protocol CallInProgress: AnyObject, Sendable {
  /// False once the thread was answered early, because it is being killed. It may have ended then.
  var isValid: Bool { get }
}

package struct HostTask: Sendable, Hashable {
  /// The thread ID, in this server's PID namespace.
  package let id: Int32
  /// The call in which the thread is blocked. `nil` when something else shows that the thread has
  /// not ended.
  private let call: (any CallInProgress)?

  package init(id: Int32) {
    self.id = id
    call = nil
  }

  /// - Parameter call: the call in which the thread is blocked while the task is used.
  package init(id: Int32, in call: any CallInProgress) {
    self.id = id
    self.call = call
  }

  package static func == (left: HostTask, right: HostTask) -> Bool { left.id == right.id }
  package func hash(into hasher: inout Hasher) { hasher.combine(id) }

  /// - Throws: `.noSuchProcess` when the thread may have ended. What was found out about the thread
  ///   before is valid only if this does not throw afterwards.
  package func checkBlocked() throws(Errno) {
    if let call, !call.isValid { throw .noSuchProcess }
  }

  /// Fills `buffer` from the thread's memory at `address`.
  ///
  /// Bytes before the first inaccessible page are transferred, as copy_from_user() does.
  /// - Throws: `.badAddress` when any byte cannot be read, `.notPermitted` when this server may not
  ///   access the thread, `.noSuchProcess` when the thread has ended.
  package func read(
    at address: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) {
    guard let base = buffer.baseAddress, buffer.count > 0 else { return }
    try checkBlocked()
    let count = CLinux_process_vm_read(id, base, address, buffer.count)
    try checkBlocked()
    try Self.check(count, isWhole: buffer.count)
  }

  /// Does what ``read(at:into:)`` does, and checks `identity` in the same system call.
  /// - Returns: whether the thread still runs the program that `identity` was taken of.
  package func read(
    at address: UInt64, into buffer: UnsafeMutableRawBufferPointer,
    verifying identity: ExecIdentity
  ) throws(Errno) -> Bool {
    var bytes = ExecIdentity.Bytes()
    let count = withUnsafeMutableBytes(of: &bytes) {
      CLinux_process_vm_read_two(
        id, buffer.baseAddress, address, buffer.count, $0.baseAddress, identity.address, $0.count)
    }
    try Self.check(min(count, buffer.count), isWhole: buffer.count)
    return count == buffer.count + MemoryLayout<ExecIdentity.Bytes>.size && bytes == identity.bytes
  }

  /// Copies `bytes` to the thread's memory at `address`. Read-only pages are inaccessible, as for
  /// copy_to_user().
  /// - Throws: as ``read(at:into:)``. Bytes before the first inaccessible page stay written.
  package func write(_ bytes: UnsafeRawBufferPointer, at address: UInt64) throws(Errno) {
    guard let base = bytes.baseAddress, bytes.count > 0 else { return }
    try checkBlocked()
    let count = CLinux_process_vm_write(id, base, address, bytes.count)
    try Self.check(count, isWhole: bytes.count)
  }

  private static func check(_ count: Int, isWhole whole: Int) throws(Errno) {
    if count < 0 { throw Errno(rawValue: CInt(-count)) }
    if count < whole { throw .badAddress }
  }

  /// Duplicates the thread's descriptor `number` into this process (pidfd_getfd(2)).
  /// - Parameters: see ``OwnedDescriptor/init(owning:closedBy:charge:)``.
  /// - Throws: `.badFileDescriptor` when the thread has no descriptor `number`, `.notPermitted`,
  ///   `.noSuchProcess`.
  package func duplicateDescriptor(
    _ number: Int32, closedBy close: (@Sendable (Int32) -> Void)? = nil,
    charge: ChargedShares.Charge? = nil
  ) throws(Errno) -> OwnedDescriptor {
    var pidfd = CLinux_pidfd_open(id, true)
    if pidfd == -EINVAL {  // Before Linux 6.9 pidfds refer to processes only.
      pidfd = CLinux_pidfd_open(try processID(), false)
    }
    let process = try OwnedDescriptor(checking: pidfd)
    let copy = try OwnedDescriptor(
      checking: CLinux_pidfd_getfd(process.rawValue, number), closedBy: close, charge: charge)
    try checkBlocked()
    return copy
  }

  /// Whether the thread has an address space. False when it is ending or has ended.
  package var hasMemory: Bool {
    (try? ProcFile.read("/proc/\(id)/status")).flatMap { ProcFile.field("VmSize", of: $0) } != nil
  }

  /// The ID of the process (thread group) that the thread belongs to.
  /// - Throws: `.noSuchProcess`, or the errno of reading /proc/<pid>/status.
  package func processID() throws(Errno) -> Int32 {
    if CLinux_is_thread_group_leader(id) { return id }
    let status = try ProcFile.read("/proc/\(id)/status")
    guard let text = ProcFile.field("Tgid", of: status), let value = Int32(text) else {
      throw .noSuchProcess
    }
    return value
  }

  /// The number of seccomp filters of the thread. `nil` before Linux 5.9, and when the thread has
  /// ended.
  package var seccompFilters: Int? {
    guard let status = try? ProcFile.read("/proc/\(id)/status") else { return nil }
    return ProcFile.field("Seccomp_filters", of: status).flatMap { Int($0) }
  }

  /// The ID of the task in its own PID namespace. `nil` when the task has been removed.
  package var innermostID: Int32? {
    guard let status = try? ProcFile.read("/proc/\(id)/status"),
      let line = status.split(separator: "\n").first(where: { $0.hasPrefix("NSpid:") })
    else { return nil }
    return line.split(whereSeparator: \.isWhitespace).last.flatMap { Int32($0) }
  }
}
