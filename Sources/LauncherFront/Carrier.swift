// A carrier is the file that a program really holds where it believes to hold a device: it gives the
// open file an identity (its inode) that survives dup, fork, exec and SCM_RIGHTS, and tells its last
// close. Calls on it are trapped; what is not trapped must do no harm, so it holds nothing.
//
// An open device is carried by an empty memfd, sealed so that nobody can put anything in. A queue is
// carried by one end of a socket pair (QueueCarrier), because it has to be poll-able.

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage

/// Which carrier a descriptor refers to.
typealias CarrierIdentity = FileIdentity

extension FileIdentity {
  /// - Throws: `.badFileDescriptor` when `task` has no descriptor of this number.
  init(of descriptor: Int32, in task: HostTask) throws(Errno) {
    var device: UInt64 = 0
    var inode: UInt64 = 0
    let result = CLinux_identify_descriptor(task.id, descriptor, &device, &inode)
    guard result == 0 else {
      throw result == -ENOENT ? .badFileDescriptor : Errno(rawValue: -result)
    }
    self.init(device: device, inode: inode)
  }

  init(of own: OwnedDescriptor) throws(Errno) {
    try self.init(of: own.rawValue, in: HostTask(id: getpid()))
  }
}

enum Carrier {
  private static let linkPrefix = "/memfd:"
  private static let linkSuffix = " (deleted)"

  /// A new carrier for an open of the node at `path`; the path is what /proc/<pid>/fd shows.
  static func make(for path: String) throws(Errno) -> OwnedDescriptor {
    let memory = try OwnedDescriptor(
      checking: CLinux_memfd_create(
        path, UInt32(CLinux_MFD_CLOEXEC | CLinux_MFD_ALLOW_SEALING)))
    let result = CLinux_memfd_seal(memory.rawValue)
    guard result == 0 else { throw Errno(rawValue: -result) }
    return memory
  }

  /// The node's path that ``make(for:)`` was given, from the text of a link under /proc/<pid>/fd.
  static func nodePath(fromLink link: String) -> String? {
    guard link.hasPrefix(linkPrefix), link.hasSuffix(linkSuffix) else { return nil }
    return String(link.dropFirst(linkPrefix.count).dropLast(linkSuffix.count))
  }
}
