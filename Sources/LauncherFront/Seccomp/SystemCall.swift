// SPDX-License-Identifier: Apache-2.0

internal import CLinux

/// A system call ABI. The same process may use two: a 64-bit kernel runs 32-bit programs.
enum Architecture: CaseIterable {
  case x8664, i386, aarch64

  /// The AUDIT_ARCH_… value in struct seccomp_data.
  var auditValue: UInt32 {
    switch self {
    case .x8664: CLinux_AUDIT_ARCH_X86_64
    case .i386: CLinux_AUDIT_ARCH_I386
    case .aarch64: CLinux_AUDIT_ARCH_AARCH64
    }
  }

  /// The size of a pointer in structures of this ABI.
  var wordSize: Int { self == .i386 ? 4 : 8 }

  init?(auditValue: UInt32) {
    let match = Self.allCases.first { $0.auditValue == auditValue }
    guard let match else { return nil }
    self = match
  }
}

/// A system call by its name, which is independent of its number on an architecture. The raw values
/// are the names that a trace prints.
enum SystemCall: String {
  case accept, bind, connect, getpeername, getsockname, getsockopt, listen, recvfrom, recvmmsg
  case recvmsg, sendmmsg, sendmsg, sendto, setsockopt, shutdown
  case access, faccessat, faccessat2
  case chdir, chroot, clone, pivotRoot, setns, unshare
  case chmod, fchmod, fchmodat, fchmodat2
  case chown, fchown, fchownat, lchown
  case copyFileRange, sendfile, splice
  case creat, open, openat, openat2
  case execve, execveat, exit, exitGroup
  case fallocate, fdatasync, fsync, ftruncate, readahead, syncFileRange
  case fcntl, flock
  case fgetxattr, flistxattr, fremovexattr, fsetxattr
  case fstat, fstatat, lstat, stat, statx
  case fstatfs, statfs
  case futimesat, utime, utimensat, utimes
  case getdents64
  case getxattr, lgetxattr, listxattr, llistxattr, lremovexattr, lsetxattr, removexattr, setxattr
  case inotifyAddWatch, nameToHandleAt
  case ioSubmit, ioUringEnter, ioUringRegister
  case ioctl
  case link, linkat, mkdir, mkdirat, mknod, mknodat, rename, renameat, renameat2, rmdir, symlink
  case symlinkat, unlink, unlinkat
  case llseek, lseek
  case mmap
  case pread, preadv, preadv2, pwrite, pwritev, pwritev2
  case read, readv, write, writev
  case readlink, readlinkat
  case truncate
}
