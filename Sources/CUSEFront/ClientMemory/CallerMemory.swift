// SPDX-License-Identifier: Apache-2.0

internal import Host
internal import SystemPackage
internal import UAPI

/// The memory of a thread while it is blocked in a call to this server. Every failure is EFAULT, as
/// in the kernel.
struct CallerMemory: UserMemory {
  let task: HostTask

  func copyIn(
    from address: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) {
    do { try task.read(at: address, into: buffer) } catch { throw .badAddress }
  }

  func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
    do { try task.write(bytes, at: address) } catch { throw .badAddress }
  }
}
