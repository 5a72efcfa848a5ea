// The address spaces that devices were given, so that they can be read one last time when their
// process ends or executes another program: pages that are pinned stay, and their contents with them.

internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage

final class AddressSpaces: Sendable {
  private struct Reference {
    weak var space: AddressSpace?
  }

  private let registry = AddressSpaceRegistry()
  /// By process id, and so perhaps of a process that is gone: reading its memory gives nothing then.
  private let given = Mutex<[Int32: Reference]>([:])
  private static let sweepAt = 1024

  /// For a device to keep.
  func space(of task: HostTask) throws(Errno) -> AddressSpace {
    let space = try registry.addressSpace(of: task)
    given.withLock { given in
      if given.count >= Self.sweepAt { given = given.filter { $0.value.space != nil } }
      given[space.processID] = Reference(space: space)
    }
    return space
  }

  func execIdentity(of space: AddressSpace) -> ExecIdentity? {
    registry.execIdentity(of: space)
  }

  /// The address space that `task` is about to leave, if a device still has it and no other thread
  /// of the process stays behind.
  func spaceLeft(by task: HostTask, _ operation: Operation) -> AddressSpace? {
    guard given.withLock({ !$0.isEmpty }), let process = try? task.processID() else { return nil }
    if operation == .exit, Self.hasOtherThreads(process) { return nil }
    return given.withLock { $0[process]?.space }
  }

  /// /proc/<pid>/task has two links beside those of its subdirectories.
  private static func hasOtherThreads(_ process: Int32) -> Bool {
    var status = stat()
    return stat("/proc/\(process)/task", &status) == 0 && status.st_nlink > 3
  }
}
