// Who a task is to the host's kernel, and what it may lock in memory.

internal import CLinux
internal import Glibc
package import SystemPackage

package enum Capability: UInt64, Sendable {
  case ipcLock = 14
  case sysResource = 24
}

extension HostTask {
  /// The kernel's capable(): the effective set has it, and in the initial user namespace. Root of a
  /// container with its own user namespace is not capable of anything here.
  package func isCapable(of capability: Capability) -> Bool {
    var set: UInt64 = 0
    guard CLinux_effective_capabilities(id, &set) == 0, set >> capability.rawValue & 1 == 1 else {
      return false
    }
    return CLinux_is_in_initial_user_namespace(id)
  }

  /// The real user id, whose locked memory is counted (the kernel's current_user()), as this
  /// server's user namespace shows it.
  package func realUserID() throws(Errno) -> UInt32 {
    let pidfd = CLinux_pidfd_open(id, true)
    if pidfd >= 0 {
      let task = OwnedDescriptor(owning: pidfd)
      var user: UInt32 = 0
      if CLinux_pidfd_real_user(task.rawValue, &user) == 0 { return user }
    }
    let status = try ProcFile.read("/proc/\(id)/status")
    guard let text = ProcFile.field("Uid", of: status), let user = UInt32(text) else {
      throw .noSuchProcess
    }
    return user
  }

  /// The soft RLIMIT_MEMLOCK, in bytes; RLIM_INFINITY is `UInt64.max`.
  package func lockedMemoryLimit() throws(Errno) -> UInt64 {
    var limit: UInt64 = 0
    switch CLinux_memlock_limit(id, &limit) {
    case 0: return limit
    // Of another user's process the number may be read, but not by that call.
    case -EPERM: return try lockedMemoryLimitFromText()
    case let failure: throw Errno(rawValue: -failure)
    }
  }

  /// The soft RLIMIT_NOFILE: descriptor numbers are below it.
  package func descriptorLimit() throws(Errno) -> UInt64 {
    var limit: UInt64 = 0
    switch CLinux_descriptor_limit(id, &limit) {
    case 0: return limit
    case -EPERM: return try limitFromText("Max open files")
    case let failure: throw Errno(rawValue: -failure)
    }
  }

  func lockedMemoryLimitFromText() throws(Errno) -> UInt64 {
    try limitFromText("Max locked memory")
  }

  /// - Parameter name: of three words.
  private func limitFromText(_ name: String) throws(Errno) -> UInt64 {
    let text = try ProcFile.read("/proc/\(id)/limits")
    for line in text.split(separator: "\n") where line.hasPrefix(name + " ") {
      // Max locked memory <soft> <hard> bytes
      let words = line.split(separator: " ")
      if words.count > 3 { return words[3] == "unlimited" ? .max : UInt64(words[3]) ?? 0 }
    }
    throw .noSuchProcess
  }

  /// Bytes the task's process has locked itself with mlock(2) and the like (mm->locked_vm).
  package func lockedMemory() throws(Errno) -> UInt64 {
    let status = try ProcFile.read("/proc/\(id)/status")
    guard let text = ProcFile.field("VmLck", of: status), let kibibytes = UInt64(text) else {
      return 0
    }
    return kibibytes &* 1024
  }
}
