// SPDX-License-Identifier: Apache-2.0

// Credentials and resource limits of a thread.

internal import CLinux
internal import Glibc
package import SystemPackage

/// CAP_… of <linux/capability.h>.
package enum Capability: UInt64, Sendable, CaseIterable {
  case ipcLock = 14
  case sysResource = 24

  /// The name in <linux/capability.h>.
  package var name: String {
    switch self {
    case .ipcLock: "CAP_IPC_LOCK"
    case .sysResource: "CAP_SYS_RESOURCE"
    }
  }
}

extension HostTask {
  /// Whether the thread has `capability` in the initial user namespace, as the kernel's capable()
  /// asks. The root user of a container with its own user namespace has no such capability.
  package func isCapable(of capability: Capability) -> Bool {
    var set: UInt64 = 0
    guard CLinux_capget_effective(id, &set) == 0, set >> capability.rawValue & 1 == 1 else {
      return false
    }
    return CLinux_is_in_initial_user_namespace(id)
  }

  /// Whether the thread is the root user of this process's user namespace and no program has
  /// dropped its capabilities: its effective user ID is 0, and its effective set is not empty
  /// unless that of this process is. A program may have dropped some capabilities and kept others.
  package var isPrivilegedRoot: Bool {
    var (set, own, link, ownLink) = (UInt64(0), UInt64(0), stat(), stat())
    guard CLinux_capget_effective(id, &set) == 0, CLinux_capget_effective(getpid(), &own) == 0,
      set != 0 || own == 0, stat("/proc/\(id)/ns/user", &link) == 0,
      stat("/proc/self/ns/user", &ownLink) == 0, link.st_ino == ownLink.st_ino
    else { return false }
    return (try? effectiveUserID()) == 0
  }

  /// The effective user ID, as this server's user namespace shows it.
  /// - Throws: `.noSuchProcess` when the thread has ended.
  private func effectiveUserID() throws(Errno) -> UInt32 {
    // Uid: <real> <effective> <saved> <file system>
    let status = try ProcFile.read("/proc/\(id)/status")
    guard let text = ProcFile.words(ofField: "Uid", of: status).dropFirst().first,
      let user = UInt32(text)
    else { throw .noSuchProcess }
    return user
  }

  /// The real user ID, as this server's user namespace shows it. The kernel charges pinned pages to
  /// this user (current_user()).
  /// - Throws: `.noSuchProcess` when the thread has ended.
  package func realUserID() throws(Errno) -> UInt32 {
    let pidfd = CLinux_pidfd_open(id, true)
    if pidfd >= 0 {
      let task = OwnedDescriptor(owning: pidfd)
      var user: UInt32 = 0
      if CLinux_pidfd_real_uid(task.rawValue, &user) == 0 { return user }
    }
    let status = try ProcFile.read("/proc/\(id)/status")
    guard let text = ProcFile.field("Uid", of: status), let user = UInt32(text) else {
      throw .noSuchProcess
    }
    return user
  }

  /// The soft RLIMIT_MEMLOCK, in bytes; RLIM_INFINITY is `UInt64.max`.
  /// - Throws: `.noSuchProcess` when the thread has ended.
  package func lockedMemoryLimit() throws(Errno) -> UInt64 {
    var limit: UInt64 = 0
    switch CLinux_prlimit_memlock(id, &limit) {
    case 0: return limit
    // prlimit(2) refuses for another user's process, whose /proc/<pid>/limits can be read.
    case -EPERM: return try lockedMemoryLimitFromText()
    case let failure: throw Errno(rawValue: -failure)
    }
  }

  /// The soft RLIMIT_NOFILE: descriptor numbers are lower.
  /// - Throws: `.noSuchProcess` when the thread has ended.
  package func descriptorLimit() throws(Errno) -> UInt64 {
    var limit: UInt64 = 0
    switch CLinux_prlimit_nofile(id, &limit) {
    case 0: return limit
    case -EPERM: return try limitFromText("Max open files")
    case let failure: throw Errno(rawValue: -failure)
    }
  }

  func lockedMemoryLimitFromText() throws(Errno) -> UInt64 {
    try limitFromText("Max locked memory")
  }

  /// A soft limit from /proc/<pid>/limits.
  /// - Parameter name: the name in the first column, which has three words.
  private func limitFromText(_ name: String) throws(Errno) -> UInt64 {
    let text = try ProcFile.read("/proc/\(id)/limits")
    for line in text.split(separator: "\n") where line.hasPrefix(name + " ") {
      // Max locked memory <soft> <hard> bytes
      let words = line.split(separator: " ")
      if words.count > 3 { return words[3] == "unlimited" ? .max : UInt64(words[3]) ?? 0 }
    }
    throw .noSuchProcess
  }

  /// Bytes that the thread's process has locked with mlock(2) and similar calls
  /// (mm_struct.locked_vm).
  /// - Throws: `.noSuchProcess` when the thread has ended.
  package func lockedMemory() throws(Errno) -> UInt64 {
    let status = try ProcFile.read("/proc/\(id)/status")
    guard let text = ProcFile.field("VmLck", of: status), let kibibytes = UInt64(text) else {
      return 0
    }
    return kibibytes &* 1024
  }
}
