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
  case access, faccessat, faccessat2
  case creat
  case execve, execveat, exit, exitGroup
  case fcntl
  case fstat, fstatat, lstat, stat, statx
  case ioctl
  case lseek
  case mmap
  case open, openat, openat2
  case pread, preadv, preadv2, pwrite, pwritev, pwritev2
  case read, readv, write, writev
}
