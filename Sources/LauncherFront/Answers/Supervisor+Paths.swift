// SPDX-License-Identifier: Apache-2.0

// What the paths of calls lead to, and the answers to calls on paths beside open(2) and stat(2).
//
// No file system has the files of the tree, so they cannot be removed, renamed or linked: the
// answers are those of a read-only file system. Mode, owner and times can be changed by the root
// user; they are what stat(2) shows, and have no other effect.

internal import CLinux
internal import FrontEnd
internal import Glibc
internal import Host
internal import SystemPackage
internal import UAPI

extension Supervisor {
  /// A target with what only readlink(2) needs to know.
  private struct Found {
    let target: PathTarget
    /// See ``PathWalk/endsAtOpenFileLink``.
    let isLinkToIt: Bool
  }

  /// - Returns: what a path of `call` leads to; `nil` when the kernel must answer.
  func target(
    at address: UInt64, from directory: Int32, followsLast: Bool,
    restrictions: PathWalk.Restrictions = [], in call: TrappedCall
  ) throws(Errno) -> PathTarget? {
    let found = try find(
      at: address, from: directory, followsLast: followsLast, restrictions: restrictions, in: call)
    guard let found, !found.isLinkToIt else { return nil }
    return found.target
  }

  private func find(
    at address: UInt64, from directory: Int32, followsLast: Bool,
    restrictions: PathWalk.Restrictions, in call: TrappedCall
  ) throws(Errno) -> Found? {
    let path = candidate(of: call).path(at: address, from: directory, followsLast: followsLast)
    guard let path else { return nil }
    return try find(
      path, from: directory, followsLast: followsLast, restrictions: restrictions, in: call)
  }

  /// Does what ``target(at:from:followsLast:restrictions:in:)`` does for a path that was read.
  func target(
    of path: [UInt8], from directory: Int32, followsLast: Bool,
    restrictions: PathWalk.Restrictions, in call: TrappedCall
  ) throws(Errno) -> PathTarget? {
    let found = try find(
      path, from: directory, followsLast: followsLast, restrictions: restrictions, in: call)
    guard let found, !found.isLinkToIt else { return nil }
    return found.target
  }

  private func find(
    _ path: [UInt8], from directory: Int32, followsLast: Bool,
    restrictions: PathWalk.Restrictions, in call: TrappedCall
  ) throws(Errno) -> Found? {
    var walk = PathWalk(
      tree, of: call.task, rootsDiffer: rootsDiffer, followsLast: followsLast,
      restrictions: restrictions
    ) { [files] in files.contains($0) }
    var target = try walk.target(of: path, from: directory)
    // The walk is void when another thread has got the thread ID.
    guard listener.isWaiting(call.id) else { return nil }
    if case .file(let identity) = target, let node = files.node(of: identity) {
      target = .entry(node, host: nil)
    }
    if case .foreign = target { return nil }
    return Found(target: target, isLinkToIt: walk.endsAtOpenFileLink)
  }

  // MARK: Calls

  /// Answers a call of ``PathUse``.
  func usePaths(_ call: TrappedCall) throws(Errno) -> Answer {
    for use in PathUse.uses(of: call) {
      let directory = use.argument.directory.map { call.descriptor($0) } ?? AT_FDCWD
      let found = try find(
        at: call[use.argument.path], from: directory, followsLast: use.argument.follows(in: call),
        restrictions: [], in: call)
      guard let found, let answer = try answer(use.operation, found, call) else { continue }
      return answer
    }
    return call.systemCall == .chroot ? changeRoot(call) : .native
  }

  /// - Returns: `nil` when the kernel must answer.
  private func answer(
    _ operation: PathOperation, _ found: Found, _ call: TrappedCall
  ) throws(Errno) -> Answer? {
    if case .readLink(let buffer, let size) = operation {
      return try readLink(found, into: call[buffer], size: call.word(size), call)
    }
    if found.isLinkToIt { return nil }
    switch found.target {
    case .entry(_, host: .some), .foreign: return nil
    // The path cannot be given to the kernel.
    case .host: throw .permissionDenied
    case .entry(let entry, host: nil): return try answer(operation, entry, call)
    case .missing: throw operation.creates ? .permissionDenied : .noSuchFileOrDirectory
    case .file(let identity):
      guard let entry = files.beginCall(on: identity) else { return nil }
      defer { files.endCall(on: entry) }
      return try answerForAnonymousFile(operation, call)
    }
  }

  private func answer(
    _ operation: PathOperation, _ entry: VirtualEntry, _ call: TrappedCall
  ) throws(Errno) -> Answer {
    let isRoot = call.task.isRootUser
    switch operation {
    case .changeDirectory:
      guard entry.isDirectory else { throw .notDirectory }
      return try changeDirectory(to: entry, call)
    case .changeRoot: throw entry.isDirectory ? .notPermitted : .notDirectory
    case .changeMode(let argument): return try changeMode(of: entry, call.word(argument), call)
    case .changeOwner(let user, let group):
      return try changeOwner(of: entry, call.word(user), call.word(group), call)
    case .changeTimes(let argument, let isArrayOfTimespec):
      return try changeTimes(of: entry, call[argument], isArrayOfTimespec, call)
    case .createAt: throw .fileExists
    case .getAttribute, .listAttributes, .setAttribute, .removeAttribute:
      return try extendedAttributes(operation, call)
    case .hardLink: throw isRoot ? .readOnlyFileSystem : .notPermitted
    case .moveFrom: throw isRoot ? .readOnlyFileSystem : .permissionDenied
    case .makeHandle: throw .notSupportedOnSocket
    case .readLink: throw .invalidArgument
    case .remove, .removeDirectory:
      guard isRoot else { throw .permissionDenied }
      if case .remove = operation { throw entry.isDirectory ? .isDirectory : .readOnlyFileSystem }
      throw entry.isDirectory ? .directoryNotEmpty : .notDirectory
    case .reportSystem: return try reportSystem(of: "/dev", at: call[1], call)
    case .truncate: throw entry.isDirectory ? .isDirectory : .invalidArgument
    // The kernel watches an inode, which it does not have.
    case .watch: throw .permissionDenied
    }
  }

  /// The answers of an anonymous inode (anon_inode_setattr() and others), which programs reach by
  /// links of procfs.
  private func answerForAnonymousFile(
    _ operation: PathOperation, _ call: TrappedCall
  ) throws(Errno) -> Answer? {
    switch operation {
    case .changeMode, .changeOwner, .changeTimes: throw .notSupportedOnSocket
    case .reportSystem: return try reportSystem(of: nil, at: call[1], call)
    case .truncate: throw .invalidArgument
    case .changeDirectory, .changeRoot: throw .notDirectory
    case .getAttribute, .listAttributes, .setAttribute, .removeAttribute:
      return try extendedAttributes(operation, call)
    default: return nil
    }
  }

  /// - Throws: what the kernel answers to an execution of a file that is not regular.
  func refuseExecution(_ call: TrappedCall) throws(Errno) {
    let hasDirectory = call.systemCall == .execveat
    let target = try target(
      at: call[hasDirectory ? 1 : 0], from: hasDirectory ? call.descriptor(0) : AT_FDCWD,
      followsLast: true, in: call)
    switch target {
    case .entry(_, host: nil), .file: throw .permissionDenied
    case .missing: throw .noSuchFileOrDirectory
    default: return
    }
  }

  private func readLink(
    _ found: Found, into address: UInt64, size: UInt32, _ call: TrappedCall
  ) throws(Errno) -> Answer? {
    let text: String
    switch found.target {
    case .entry(_, host: .some), .foreign: return nil
    case .host: throw .invalidArgument
    case .missing: throw .noSuchFileOrDirectory
    case .entry(let entry, host: nil):
      guard found.isLinkToIt else { throw .invalidArgument }
      text = entry.path
    case .file(let identity):
      guard found.isLinkToIt, let entry = files.beginCall(on: identity) else { return nil }
      defer { files.endCall(on: entry) }
      text = entry.file.linkText
    }
    guard Int32(bitPattern: size) > 0 else { throw .invalidArgument }
    let bytes = Array(text.utf8.prefix(Int(size)))
    try client(of: call).storeArray(bytes, at: address)
    return .value(Int64(bytes.count))
  }

  /// Stores the status of the file system of `path`, or of anonymous inodes.
  func reportSystem(
    of path: String?, at address: UInt64, _ call: TrappedCall
  ) throws(Errno) -> Answer {
    // struct statfs64 of i386 has another layout.
    guard call.architecture != .i386 else { throw .noFunction }
    var bytes = [UInt8](repeating: 0, count: 256)
    let size = bytes.withUnsafeMutableBytes {
      CLinux_statfs_bytes(path, $0.baseAddress, $0.count)
    }
    guard size > 0 else { throw Errno(rawValue: -size) }
    try client(of: call).storeArray(Array(bytes.prefix(Int(size))), at: address)
    return .value(0)
  }

  /// Answers a call on extended attributes, of which no file of this server has any.
  /// xattr_permission() decides for the name spaces that do not depend on the file system.
  func extendedAttributes(
    _ operation: PathOperation, _ call: TrappedCall
  ) throws(Errno) -> Answer {
    if case .listAttributes = operation { return .value(0) }
    guard let name = client(of: call).loadPath(at: call[1]) else { throw .badAddress }
    if case .getAttribute = operation {
      throw name.hasPrefix("user.") || name.hasPrefix("trusted.") ? .noData : .notSupportedOnSocket
    }
    throw name.hasPrefix("user.") || !call.task.isRootUser ? .notPermitted : .notSupportedOnSocket
  }
}

extension PathOperation {
  fileprivate var creates: Bool { if case .createAt = self { true } else { false } }
}
