// SPDX-License-Identifier: Apache-2.0

// The address spaces that devices use, by process, so that their pinned pages can be read one last
// time when the process ends or executes another program: pinned pages keep their contents.

internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage

final class ClientAddressSpaces: Sendable {
  private struct Reference {
    weak var space: AddressSpace?
  }

  private let registry = AddressSpaceRegistry()
  /// By process ID. The process may have ended since; reading its memory then returns nothing.
  private let used = Mutex<[Int32: Reference]>([:])
  /// The number of elements of `used` at which those without an address space are removed.
  private static let sweepThreshold = 1024

  /// The address space of `task`, for a device.
  func space(of task: HostTask) throws(Errno) -> AddressSpace {
    let space = try registry.addressSpace(of: task)
    used.withLock { used in
      if used.count >= Self.sweepThreshold { used = used.filter { $0.value.space != nil } }
      used[space.processID] = Reference(space: space)
    }
    return space
  }

  /// What identifies the exec of `space`.
  func execIdentity(of space: AddressSpace) -> ExecIdentity? {
    registry.execIdentity(of: space)
  }

  /// The address space that `systemCall` of `task` will free. `nil` when no device uses it, or when
  /// another thread of the process keeps it.
  func space(freedBy systemCall: SystemCall, of task: HostTask) -> AddressSpace? {
    guard used.withLock({ !$0.isEmpty }), let process = try? task.processID() else { return nil }
    if systemCall == .exit, Self.hasOtherThreads(process) { return nil }
    return used.withLock { $0[process]?.space }
  }

  /// The link count of /proc/<pid>/task is 2 plus the number of threads.
  private static func hasOtherThreads(_ process: Int32) -> Bool {
    var status = stat()
    return stat("/proc/\(process)/task", &status) == 0 && status.st_nlink > 3
  }
}
