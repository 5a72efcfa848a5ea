// SPDX-License-Identifier: Apache-2.0

// The system calls that name a file by a path, beside open(2): which arguments are paths, and what
// the call does to the file.

/// An argument that is a path.
struct PathArgument {
  enum Following {
    case always, never
    /// A symbolic link at the end is followed unless, or only if, a flag is set in an argument.
    case unless(argument: Int, flag: UInt32)
    case onlyIf(argument: Int, flag: UInt32)
  }

  /// The argument with the directory descriptor. `nil` when a relative path begins at the working
  /// directory.
  let directory: Int?
  let path: Int
  let following: Following

  init(_ path: Int, in directory: Int? = nil, _ following: Following = .always) {
    self.directory = directory
    self.path = path
    self.following = following
  }

  func follows(in call: TrappedCall) -> Bool {
    switch following {
    case .always: true
    case .never: false
    case .unless(let argument, let flag): call.word(argument) & flag == 0
    case .onlyIf(let argument, let flag): call.word(argument) & flag != 0
    }
  }
}

/// What a call does to the file that a path leads to.
enum PathOperation {
  case changeDirectory, changeRoot
  case changeMode(argument: Int)
  case changeOwner(user: Int, group: Int)
  /// `argument` is the address of the times, or 0 for the current time.
  case changeTimes(argument: Int, isArrayOfTimespec: Bool)
  case createAt
  case getAttribute, listAttributes, setAttribute, removeAttribute
  case hardLink, moveFrom
  case makeHandle
  case readLink(buffer: Int, size: Int)
  case removeDirectory
  case remove
  case reportSystem
  case truncate
  case watch
}

/// A path of a call and what the call does there.
struct PathUse {
  let argument: PathArgument
  let operation: PathOperation

  init(_ argument: PathArgument, _ operation: PathOperation) {
    self.argument = argument
    self.operation = operation
  }

  /// AT_SYMLINK_NOFOLLOW
  private static let noFollow: UInt32 = 0x100
  /// AT_SYMLINK_FOLLOW
  private static let follow: UInt32 = 0x400
  /// AT_REMOVEDIR
  private static let removesDirectory: UInt32 = 0x200
  /// IN_DONT_FOLLOW
  private static let watchesLink: UInt32 = 0x0200_0000

  static let calls: Set<SystemCall> = [
    .chdir, .chroot, .chmod, .fchmodat, .fchmodat2, .chown, .lchown, .fchownat, .utime, .utimes,
    .futimesat, .utimensat, .truncate, .statfs, .readlink, .readlinkat, .unlink, .rmdir, .unlinkat,
    .rename, .renameat, .renameat2, .link, .linkat, .symlink, .symlinkat, .mkdir, .mknod, .mkdirat,
    .mknodat, .getxattr, .lgetxattr, .listxattr, .llistxattr, .setxattr, .lsetxattr, .removexattr,
    .lremovexattr, .nameToHandleAt, .inotifyAddWatch,
  ]

  /// The paths of `call`, in the order in which the kernel looks them up. Empty for a call that is
  /// not in this table.
  static func uses(of call: TrappedCall) -> [PathUse] {
    switch call.systemCall {
    case .chdir: [PathUse(PathArgument(0), .changeDirectory)]
    case .chroot: [PathUse(PathArgument(0), .changeRoot)]
    case .chmod: [PathUse(PathArgument(0), .changeMode(argument: 1))]
    case .fchmodat: [PathUse(PathArgument(1, in: 0), .changeMode(argument: 2))]
    case .fchmodat2:
      [
        PathUse(
          PathArgument(1, in: 0, .unless(argument: 3, flag: noFollow)), .changeMode(argument: 2))
      ]
    case .chown: [PathUse(PathArgument(0), .changeOwner(user: 1, group: 2))]
    case .lchown: [PathUse(PathArgument(0, .never), .changeOwner(user: 1, group: 2))]
    case .fchownat:
      [
        PathUse(
          PathArgument(1, in: 0, .unless(argument: 4, flag: noFollow)),
          .changeOwner(user: 2, group: 3))
      ]
    case .utime, .utimes:
      [PathUse(PathArgument(0), .changeTimes(argument: 1, isArrayOfTimespec: false))]
    case .futimesat:
      [PathUse(PathArgument(1, in: 0), .changeTimes(argument: 2, isArrayOfTimespec: false))]
    case .utimensat:
      [
        PathUse(
          PathArgument(1, in: 0, .unless(argument: 3, flag: noFollow)),
          .changeTimes(argument: 2, isArrayOfTimespec: call.architecture != .i386))
      ]
    case .truncate: [PathUse(PathArgument(0), .truncate)]
    case .statfs: [PathUse(PathArgument(0), .reportSystem)]
    case .readlink: [PathUse(PathArgument(0, .never), .readLink(buffer: 1, size: 2))]
    case .readlinkat: [PathUse(PathArgument(1, in: 0, .never), .readLink(buffer: 2, size: 3))]
    default: usesOfDirectories(call) + usesOfAttributes(call)
    }
  }

  private static func usesOfDirectories(_ call: TrappedCall) -> [PathUse] {
    switch call.systemCall {
    case .unlink: [PathUse(PathArgument(0, .never), .remove)]
    case .rmdir: [PathUse(PathArgument(0, .never), .removeDirectory)]
    case .unlinkat:
      [
        PathUse(
          PathArgument(1, in: 0, .never),
          call.word(2) & removesDirectory == 0 ? .remove : .removeDirectory)
      ]
    case .rename:
      [PathUse(PathArgument(0, .never), .moveFrom), PathUse(PathArgument(1, .never), .createAt)]
    case .renameat, .renameat2:
      [
        PathUse(PathArgument(1, in: 0, .never), .moveFrom),
        PathUse(PathArgument(3, in: 2, .never), .createAt),
      ]
    case .link:
      [PathUse(PathArgument(0, .never), .hardLink), PathUse(PathArgument(1, .never), .createAt)]
    case .linkat:
      [
        PathUse(PathArgument(1, in: 0, .onlyIf(argument: 4, flag: follow)), .hardLink),
        PathUse(PathArgument(3, in: 2, .never), .createAt),
      ]
    case .symlink: [PathUse(PathArgument(1, .never), .createAt)]
    case .symlinkat: [PathUse(PathArgument(2, in: 1, .never), .createAt)]
    case .mkdir, .mknod: [PathUse(PathArgument(0, .never), .createAt)]
    case .mkdirat, .mknodat: [PathUse(PathArgument(1, in: 0, .never), .createAt)]
    default: []
    }
  }

  private static func usesOfAttributes(_ call: TrappedCall) -> [PathUse] {
    switch call.systemCall {
    case .getxattr: [PathUse(PathArgument(0), .getAttribute)]
    case .lgetxattr: [PathUse(PathArgument(0, .never), .getAttribute)]
    case .listxattr: [PathUse(PathArgument(0), .listAttributes)]
    case .llistxattr: [PathUse(PathArgument(0, .never), .listAttributes)]
    case .setxattr: [PathUse(PathArgument(0), .setAttribute)]
    case .lsetxattr: [PathUse(PathArgument(0, .never), .setAttribute)]
    case .removexattr: [PathUse(PathArgument(0), .removeAttribute)]
    case .lremovexattr: [PathUse(PathArgument(0, .never), .removeAttribute)]
    case .nameToHandleAt: [PathUse(PathArgument(1, in: 0, .never), .makeHandle)]
    case .inotifyAddWatch:
      [PathUse(PathArgument(1, .unless(argument: 2, flag: watchesLink)), .watch)]
    default: []
    }
  }
}
