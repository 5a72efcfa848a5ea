// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage
internal import UAPI

private enum FoundStatus {
  case own(NodeStatus)
  /// The status of this file of the host.
  case host(OwnedDescriptor)
}

extension Supervisor {
  /// AT_EMPTY_PATH
  private static let emptyPath: UInt32 = 0x1000
  /// AT_SYMLINK_NOFOLLOW
  private static let noFollow: UInt32 = 0x100

  /// AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT and the AT_STATX_… flags of statx(2)
  private static let validFlags: UInt32 = 0x7900

  /// Answers stat(2) and related calls, by path and by descriptor, for device nodes and for the
  /// directories above them that the host does not have.
  func status(_ call: TrappedCall) throws(Errno) -> Answer {
    let status: FoundStatus?
    let destination: UInt64
    switch call.systemCall {
    case .fstat:
      status = try self.status(of: call.descriptor(0), call).map(FoundStatus.own)
      destination = call[1]
    case .stat, .lstat:
      status = try self.status(
        at: call[0], from: AT_FDCWD, flags: call.systemCall == .lstat ? Self.noFollow : 0, call)
      destination = call[1]
    case .fstatat:
      status = try self.status(
        at: call[1], from: call.descriptor(0), flags: call.word(3), call)
      destination = call[2]
    default:
      status = try self.status(
        at: call[1], from: call.descriptor(0), flags: call.word(2), call)
      destination = call[4]
    }
    guard let status else { return .native }
    let isExtended = call.systemCall == .statx
    let bytes =
      switch status {
      case .own(let status):
        isExtended ? status.extendedBytes : status.bytes(for: call.architecture)
      case .host(let file): try Self.bytes(of: file, isExtended, call.architecture)
      }
    try client(of: call).storeArray(bytes, at: destination)
    return .value(0)
  }

  private func status(
    at address: UInt64, from directory: Int32, flags: UInt32 = 0, _ call: TrappedCall
  ) throws(Errno) -> FoundStatus? {
    if flags & Self.emptyPath != 0, isEmptyPath(at: address, of: call.task) {
      // The kernel tests the flags before the descriptor.
      guard flags & ~Self.validFlags == 0 else { return nil }
      return try status(of: directory, call).map(FoundStatus.own)
    }
    let target = try target(
      at: address, from: directory, followsLast: flags & Self.noFollow == 0, in: call)
    switch target {
    case nil, .foreign, .entry(_, host: .some): return nil
    case .entry(let entry, host: nil): return .own(NodeStatus(of: entry))
    case .host(let file): return .host(file)
    case .missing: throw .noSuchFileOrDirectory
    case .file(let identity): return .own(NodeStatus(anonymousWithInode: identity.inode))
    }
  }

  /// The status of a file of the host, as the kernel stores it.
  private static func bytes(
    of file: OwnedDescriptor, _ isExtended: Bool, _ architecture: Architecture
  ) throws(Errno) -> [UInt8] {
    guard isExtended || architecture != .i386 else { throw .noSuchFileOrDirectory }
    var bytes = [UInt8](repeating: 0, count: 256)
    let size = bytes.withUnsafeMutableBytes {
      CLinux_stat_bytes(file.rawValue, isExtended, $0.baseAddress, $0.count)
    }
    guard size > 0 else { throw Errno(rawValue: -size) }
    return Array(bytes.prefix(Int(size)))
  }

  /// Since Linux 6.11 a null pointer stands for the empty path.
  private func isEmptyPath(at address: UInt64, of task: HostTask) -> Bool {
    if address == 0 { return true }
    var first: UInt8 = 1
    let isRead: Void? = withUnsafeMutableBytes(of: &first) { try? task.read(at: address, into: $0) }
    return isRead != nil && first == 0
  }

  /// - Throws: `.badFileDescriptor` when the descriptor is not open. If the kernel executed the
  ///   call, a stand-in that another thread puts there meanwhile could answer.
  private func status(
    of descriptor: Int32, _ call: TrappedCall
  ) throws(Errno) -> NodeStatus? {
    let (identity, entry): (StandInIdentity, OpenFileEntry?)
    do throws(Errno) {
      (identity, entry) = try client(of: call).beginCallOnFile(of: descriptor)
    } catch {
      if error == .badFileDescriptor, descriptor >= 0 { throw error }
      return nil
    }
    guard let entry else {
      guard case .placeHolder(let entry) = tree.meaning(of: identity) else { return nil }
      return NodeStatus(of: entry)
    }
    defer { files.endCall(on: entry) }
    if let node = entry.node { return NodeStatus(of: node) }
    return entry.position == nil ? NodeStatus(anonymousWithInode: identity.inode) : nil
  }
}

extension Supervisor {
  /// Answers access(2) and faccessat(2).
  func access(_ call: TrappedCall) throws(Errno) -> Answer {
    let hasDirectory = call.systemCall != .access
    let flags = call.systemCall == .faccessat2 ? call.word(3) : 0
    let status = try status(
      at: call[hasDirectory ? 1 : 0], from: hasDirectory ? call.descriptor(0) : AT_FDCWD,
      flags: flags, call)
    guard case .own(let status) = status else {
      // A file of the host that is reached through the tree exists.
      return status == nil ? .native : .value(0)
    }
    let mode = call.word(hasDirectory ? 2 : 1)
    // generic_permission() for the owner, the root user or others. A node without any execute
    // permission cannot be executed by the root user, either.
    guard mode & ~7 == 0 else { throw .invalidArgument }
    let isRoot = call.task.isRootUser
    let isDirectory = status.mode & UInt32(S_IFMT) == UInt32(S_IFDIR)
    let granted = isRoot ? (isDirectory || status.mode & 0o111 != 0 ? 7 : 6) : status.mode & 7
    return mode & ~granted == 0 ? .value(0) : .failure(.permissionDenied)
  }
}
