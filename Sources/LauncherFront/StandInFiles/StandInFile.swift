// SPDX-License-Identifier: Apache-2.0

// A stand-in file is the file that a program's descriptor refers to where the program has opened a
// device node. Its inode identifies the open device across dup, fork, exec and SCM_RIGHTS, and its
// last close can be observed. Calls on it are trapped; a call that is not trapped must have no
// effect.
//
// An open device has a memfd as its stand-in. The memfd is sealed against a change of its size,
// and, when the device has no regions that can be mapped, against writing. A program's mapping of a
// region is a mapping of the memfd at the region's offset. A region that is shared with the server
// is also mapped by the server, through an open file of its own. The file position is the largest
// possible one, where no byte can be read or written: read(2) and write(2) fail with EINVAL, as on
// a file without these operations. (A memfd_secret(2) fails so by itself, but its last close cannot
// be observed.)
//
// A queue has one end of a socket pair as its stand-in (QueueStandIn), because it must be pollable.

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage
internal import UAPI

/// The identity of a stand-in file.
typealias StandInIdentity = FileIdentity

extension FileIdentity {
  /// The identity of the file that `descriptor` of `task` refers to.
  /// - Throws: `.badFileDescriptor` when the thread has no such descriptor, or another errno of
  ///   stat(2) of /proc/<pid>/fd/<descriptor>.
  init(of descriptor: Int32, in task: HostTask) throws(Errno) {
    var device: UInt64 = 0
    var inode: UInt64 = 0
    let result = CLinux_stat_descriptor(task.id, descriptor, &device, &inode)
    guard result == 0 else {
      throw result == -ENOENT ? .badFileDescriptor : Errno(rawValue: -result)
    }
    self.init(device: device, inode: inode)
  }

  /// The identity of the file that `descriptor` of the thread of `pidfd` refers to. Duplicating the
  /// descriptor is faster than looking up its path below /proc.
  /// - Throws: `.badFileDescriptor`, `.noSuchProcess` when the thread has ended, or another errno
  ///   of pidfd_getfd(2).
  init(of descriptor: Int32, in pidfd: OwnedDescriptor) throws(Errno) {
    var device: UInt64 = 0
    var inode: UInt64 = 0
    let result = CLinux_pidfd_stat_descriptor(pidfd.rawValue, descriptor, &device, &inode)
    guard result == 0 else { throw Errno(rawValue: -result) }
    self.init(device: device, inode: inode)
  }

  init(of own: OwnedDescriptor) throws(Errno) {
    var file = CLinux_file()
    let result = CLinux_fstat(own.rawValue, &file)
    guard result == 0 else { throw Errno(rawValue: -result) }
    self = file.identity
  }
}

enum StandInFile {
  /// The largest number of stand-in files at a time. The kernel limits the inotify watches of a
  /// user, and each file has one.
  static var limit: Int {
    let path = "/proc/sys/fs/inotify/max_user_watches"
    let text = (try? ProcFile.read(path)) ?? ""
    return min(65_536, Int(text.prefix { $0.isNumber }) ?? 8192)
  }

  /// Makes a stand-in file for an open of the node at `path`. /proc/<pid>/fd shows the path as the
  /// name of the memfd.
  /// - Parameter flags: the status flags of the open file (F_GETFL).
  static func make(
    for path: String, hasRegions: Bool, flags: Int32 = O_RDWR
  ) throws(Errno) -> OwnedDescriptor {
    let memory = try makeMemory(for: path, size: hasRegions ? off_t(RegionOffset.end) : 0)
    let result = CLinux_memfd_seal(memory.rawValue, !hasRegions)
    guard result == 0 else { throw Errno(rawValue: -result) }
    // memfd_create(2) always opens for reading and writing.
    let statusFlags = flags & settableFlags
    let standIn = statusFlags == O_RDWR ? memory : try reopen(memory, flags: statusFlags)
    if hasRegions, flags & O_ACCMODE != O_ACCMODE {
      // See StandInLocks. A file with access mode 3 cannot be mapped.
      let result = CLinux_ofd_lock(standIn.rawValue, flags & O_ACCMODE != O_RDONLY)
      guard result == 0 else { throw Errno(rawValue: -result) }
    }
    guard lseek(standIn.rawValue, off_t.max, SEEK_SET) == off_t.max else {
      throw Errno(rawValue: errno)
    }
    return standIn
  }

  /// A memfd of zeros. /proc/<pid>/fd shows `path` as its name.
  static func makeMemory(for path: String, size: off_t) throws(Errno) -> OwnedDescriptor {
    let memory = try OwnedDescriptor(
      checking: CLinux_memfd_create(
        path, UInt32(CLinux_MFD_CLOEXEC | CLinux_MFD_ALLOW_SEALING)))
    if size > 0, ftruncate(memory.rawValue, size) != 0 {
      // A hard limit RLIMIT_FSIZE below the size (mm: inode_newsize_ok()). The file then has no
      // room for regions, and mmap(2) of a region is ENOMEM.
      guard errno == EFBIG else { throw Errno(rawValue: errno) }
    }
    return memory
  }

  private static let settableFlags = O_ACCMODE | O_APPEND | O_NONBLOCK | O_DSYNC | O_SYNC

  /// Writes the contents of `region` into the stand-in file. The programs that have the file may
  /// change it at the same time.
  static func fill(_ standIn: OwnedDescriptor, with region: any MappableRegion) throws(Errno) {
    // Removes the contents of a region that was mapped here before.
    let result = CLinux_punch_hole(standIn.rawValue, region.offset, region.length)
    guard result == 0 else { throw Errno(rawValue: -result) }
    do {
      _ = try FileDescriptor(rawValue: standIn.rawValue).writeAll(
        toAbsoluteOffset: Int64(region.offset), region.contents)
    } catch {
      throw .noMemory
    }
  }

  /// Opens the stand-in file anew, as another open file.
  static func reopen(
    _ standIn: OwnedDescriptor, flags: Int32 = O_RDWR
  ) throws(Errno) -> OwnedDescriptor {
    let descriptor = open("/proc/self/fd/\(standIn.rawValue)", flags | O_CLOEXEC)
    guard descriptor >= 0 else { throw Errno(rawValue: errno) }
    return OwnedDescriptor(owning: descriptor)
  }

  private static func check(_ result: Int32) throws(Errno) {
    guard result == 0 else { throw Errno(rawValue: errno) }
  }
}
