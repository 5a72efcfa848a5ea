// SPDX-License-Identifier: Apache-2.0

// The address spaces that devices use, by process, so that their pinned pages can be read one last
// time when the process ends or executes another program: pinned pages keep their contents.

internal import Glibc
internal import Host
internal import SystemPackage

final class ClientAddressSpaces: Sendable {
  private let registry = AddressSpaceRegistry()

  /// The address space of `task`, for a device.
  func space(of task: HostTask) throws(Errno) -> AddressSpace {
    try registry.addressSpace(of: task)
  }

  /// What identifies the exec of `space`.
  func execIdentity(of space: AddressSpace) -> ExecIdentity? {
    registry.execIdentity(of: space)
  }

  /// The address space that `systemCall` of `task` will free. `nil` when no device uses it, or when
  /// another thread of the process or another process keeps it.
  func space(freedBy systemCall: SystemCall, of task: HostTask) -> AddressSpace? {
    guard !registry.isEmpty, let process = try? task.processID() else { return nil }
    if systemCall == .exit, Self.hasOtherThreads(process) { return nil }
    guard let space = registry.lastSpace(ofProcess: process), !space.isShared(besides: process)
    else { return nil }
    return space
  }

  /// The link count of /proc/<pid>/task is 2 plus the number of threads.
  static func hasOtherThreads(_ process: Int32) -> Bool {
    var status = stat()
    return stat("/proc/\(process)/task", &status) == 0 && status.st_nlink > 3
  }
}
