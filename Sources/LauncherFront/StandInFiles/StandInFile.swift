// A carrier is the file that a program really holds where it believes to hold a device: it gives the
// open file an identity (its inode) that survives dup, fork, exec and SCM_RIGHTS, and tells its last
// close. Calls on it are trapped; what is not trapped must do no harm.
//
// An open device is carried by a memfd that is sealed, so that nobody can put anything in, or, where a
// device has regions to map, so that it keeps its length: a mapping of a region is then a native one of
// the carrier, at the same offset; a region that the server shares it maps itself, too, through an open
// file of its own. Its position is the end of all positions, from where no byte can be
// read or written: plain read(2) and write(2) are EINVAL, as of a file that has neither. (A
// memfd_secret(2) says so by itself, but nothing tells its last close.)
//
// A queue is carried by one end of a socket pair (QueueStandIn), because it has to be poll-able.

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage
internal import UAPI

/// Which carrier a descriptor refers to.
typealias StandInIdentity = FileIdentity

extension FileIdentity {
  /// - Throws: `.badFileDescriptor` when `task` has no descriptor of this number.
  init(of descriptor: Int32, in task: HostTask) throws(Errno) {
    var device: UInt64 = 0
    var inode: UInt64 = 0
    let result = CLinux_stat_descriptor(task.id, descriptor, &device, &inode)
    guard result == 0 else {
      throw result == -ENOENT ? .badFileDescriptor : Errno(rawValue: -result)
    }
    self.init(device: device, inode: inode)
  }

  /// The same of the task that `pidfd` is of: a copy of the descriptor is looked at, which is quicker
  /// than its path below /proc.
  /// - Throws: also `.noSuchProcess` when the task has ended.
  init(of descriptor: Int32, in pidfd: OwnedDescriptor) throws(Errno) {
    var device: UInt64 = 0
    var inode: UInt64 = 0
    let result = CLinux_pidfd_stat_descriptor(pidfd.rawValue, descriptor, &device, &inode)
    guard result == 0 else { throw Errno(rawValue: -result) }
    self.init(device: device, inode: inode)
  }

  init(of own: OwnedDescriptor) throws(Errno) {
    try self.init(of: own.rawValue, in: HostTask(id: getpid()))
  }
}

enum StandInFile {
  private static let linkPrefix = "/memfd:"
  private static let linkSuffix = " (deleted)"

  /// A new carrier for an open of the node at `path`; the path is what /proc/<pid>/fd shows.
  static func make(for path: String, hasRegions: Bool) throws(Errno) -> OwnedDescriptor {
    let memory = try OwnedDescriptor(
      checking: CLinux_memfd_create(
        path, UInt32(CLinux_MFD_CLOEXEC | CLinux_MFD_ALLOW_SEALING)))
    if hasRegions { try check(ftruncate(memory.rawValue, off_t(RegionOffset.end))) }
    let result = CLinux_memfd_seal(memory.rawValue, !hasRegions)
    guard result == 0 else { throw Errno(rawValue: -result) }
    if hasRegions {
      let result = CLinux_ofd_lock(memory.rawValue)
      guard result == 0 else { throw Errno(rawValue: -result) }
    }
    guard lseek(memory.rawValue, off_t.max, SEEK_SET) == off_t.max else {
      throw Errno(rawValue: errno)
    }
    return memory
  }

  /// Makes the carrier hold what `region` holds. Its program may do to it what it likes meanwhile.
  static func fill(_ carrier: OwnedDescriptor, with region: any MappableRegion) throws(Errno) {
    // What was mapped here before, if anything.
    let result = CLinux_punch_hole(carrier.rawValue, region.offset, region.length)
    guard result == 0 else { throw Errno(rawValue: -result) }
    do {
      _ = try FileDescriptor(rawValue: carrier.rawValue).writeAll(
        toAbsoluteOffset: Int64(region.offset), region.contents)
    } catch {
      throw .noMemory
    }
  }

  /// The carrier as an open file of the server's own.
  static func reopen(_ carrier: OwnedDescriptor) throws(Errno) -> OwnedDescriptor {
    let descriptor = open("/proc/self/fd/\(carrier.rawValue)", O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else { throw Errno(rawValue: errno) }
    return OwnedDescriptor(owning: descriptor)
  }

  private static func check(_ result: Int32) throws(Errno) {
    guard result == 0 else { throw Errno(rawValue: errno) }
  }

  /// The node's path that ``make(for:)`` was given, from the text of a link under /proc/<pid>/fd.
  static func nodePath(fromLink link: String) -> String? {
    guard link.hasPrefix(linkPrefix), link.hasSuffix(linkSuffix) else { return nil }
    return String(link.dropFirst(linkPrefix.count).dropLast(linkSuffix.count))
  }
}
