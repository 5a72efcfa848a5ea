// SPDX-License-Identifier: Apache-2.0

// Calls on descriptors that the kernel answers by the kind of the file: what it answers for a
// character device and for an anonymous inode that lack the operation. The stand-in file is a
// regular file or a socket and would answer as such.

internal import CLinux
internal import FrontEnd
internal import Glibc
internal import Host
internal import SystemPackage
internal import UAPI

extension Supervisor {
  /// Answers a call whose argument 0 is the descriptor.
  func useDescriptor(_ call: TrappedCall) throws(Errno) -> Answer {
    try withOpenFile(for: call) { (entry, client) throws(Errno) in
      // A virtual file is regular, as its stand-in.
      if entry.position != nil { return .native }
      return try answer(call, on: entry)
    }
  }

  private func answer(_ call: TrappedCall, on entry: OpenFileEntry) throws(Errno) -> Answer {
    switch call.systemCall {
    case .fsync, .fdatasync: throw .invalidArgument
    case .syncFileRange:
      let flags = call.word(call.architecture == .i386 ? 5 : 3)
      throw flags & ~Self.validSyncFlags == 0 ? .illegalSeek : .invalidArgument
    case .fallocate:
      let offset = call.offset(2)
      let length = call.architecture == .i386 ? call.offset(4) : call[3]
      let result = CLinux_fallocate_model(
        entry.accessMode, Int32(bitPattern: call.word(1)), offset, length)
      return result < 0 ? .failure(Errno(rawValue: -result)) : .value(0)
    case .ftruncate: throw .invalidArgument
    case .readahead: throw entry.isReadable ? .invalidArgument : .badFileDescriptor
    case .fstatfs:
      // struct statfs64 of i386 has the size of the buffer as argument 1.
      return try reportSystem(of: entry.node == nil ? nil : "/dev", at: call[1], call)
    case .fgetxattr: return try extendedAttributes(.getAttribute, call)
    case .flistxattr: return try extendedAttributes(.listAttributes, call)
    case .fsetxattr: return try extendedAttributes(.setAttribute, call)
    case .fremovexattr: return try extendedAttributes(.removeAttribute, call)
    case .fchmod:
      guard let node = entry.node else { throw .notSupportedOnSocket }
      return try changeMode(of: node, call.word(1), call)
    case .fchown:
      guard let node = entry.node else { throw .notSupportedOnSocket }
      return try changeOwner(of: node, call.word(1), call.word(2), call)
    case .utimensat:
      guard let node = entry.node else {
        throw call.task.isRootUser ? .notSupportedOnSocket : .permissionDenied
      }
      return try changeTimes(of: node, call[2], call.architecture != .i386, call)
    default: throw .notSocket
    }
  }

  /// SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER
  private static let validSyncFlags: UInt32 = 7

  /// Answers sendfile(2), splice(2) and copy_file_range(2). No file of this server has the
  /// operations (do_sendfile(), do_splice(), generic_file_rw_checks()).
  func copyBetweenDescriptors(_ call: TrappedCall) throws(Errno) -> Answer {
    let isSendfile = call.systemCall == .sendfile
    let (input, output) = isSendfile ? (1, 0) : (0, 2)
    if let source = try openFile(argument: input, of: call) {
      guard source.isReadable else { throw .badFileDescriptor }
      // An anonymous inode is a stream: no FMODE_PREAD.
      throw isSendfile && source.node == nil && call[2] != 0 ? .illegalSeek : .invalidArgument
    }
    if let target = try openFile(argument: output, of: call) {
      throw target.isWritable ? .invalidArgument : .badFileDescriptor
    }
    return .native
  }

  /// The open file behind the descriptor in `argument`, unless it is of the host or a virtual file.
  private func openFile(
    argument: Int, of call: TrappedCall
  ) throws(Errno) -> OpenFileEntry? {
    guard let entry = try? client(of: call).beginCall(on: call.descriptor(argument)) else {
      return nil
    }
    defer { files.endCall(on: entry) }
    return listener.isWaiting(call.id) && entry.position == nil ? entry : nil
  }

  // MARK: fcntl(2)

  func control(_ call: TrappedCall) throws(Errno) -> Answer {
    if call.word(1) == FileControl.getStatusFlags.rawValue,
      let identity = client(of: call).identity(of: call.descriptor(0)),
      case .placeHolder(let entry) = tree.meaning(of: identity), !entry.isDirectory
    {
      return .value(Int64(OpenModel.pathOnly))
    }
    return try withOpenFile(for: call) { (entry, client) throws(Errno) in
      if entry.position != nil { return .native }
      let control = FileControl(rawValue: call.word(1))
      if let control, control.isOfOpenFileLocks, entry.node != nil, call.architecture != .i386 {
        return try lockOpenFile(control, entry, client, call)
      }
      switch control {
      case .getStatusFlags: return try statusFlags(of: entry, call)
      // No FMODE_CAN_ODIRECT (setfl()).
      case .setStatusFlags: throw .invalidArgument
      case .addSeals, .getSeals: throw .invalidArgument
      // generic_setlease(): only for the owner, and only for a regular file.
      case .setLease: throw call.task.isRootUser ? .invalidArgument : .permissionDenied
      case .getLock, .getLock64, .getOpenFileLock:
        guard entry.hasOwnLock else { return .native }
        try client.store(Int16(F_UNLCK), at: call[2])
        return .value(0)
      case .setLock, .setLock64, .setOpenFileLock, .awaitLock, .awaitLock64, .awaitOpenFileLock:
        // The stand-in file has a lock of this server (StandInLocks).
        return entry.hasOwnLock ? .value(0) : .native
      case nil: return .native
      }
    }
  }

  /// The flags of a file that a device has made, as far as its stand-in cannot have them.
  private func statusFlags(
    of entry: OpenFileEntry, _ call: TrappedCall
  ) throws(Errno) -> Answer {
    if entry.node != nil {
      // The stand-in cannot be opened with O_NOFOLLOW.
      guard entry.flags & O_NOFOLLOW != 0 else { return .native }
      let copy = try call.task.duplicateDescriptor(call.descriptor(0))
      return .value(Int64(fcntl(copy.rawValue, F_GETFL) | O_NOFOLLOW))
    }
    let flags = entry.file.descriptorFlags & DescriptorFlags.status
    guard flags == DescriptorFlags.standard & DescriptorFlags.status else {
      return .value(Int64(flags))
    }
    if entry.queue != nil { return .native }
    let copy = try call.task.duplicateDescriptor(call.descriptor(0))
    // open(2) of the stand-in has set O_LARGEFILE.
    return .value(Int64(fcntl(copy.rawValue, F_GETFL) & ~Int32(OpenModel.largeFile)))
  }

  // MARK: Positions

  /// Answers lseek(2). Most files have no such operation and are no virtual files.
  func seek(_ call: TrappedCall) throws(Errno) -> Answer {
    try withOpenFile(for: call) { (entry, client) throws(Errno) in
      if entry.position != nil { return .native }
      // _llseek(fd, upper, lower, result, whence) of 32-bit ABIs.
      let isLong = call.systemCall == .llseek
      let whence = call.word(isLong ? 4 : 2)
      guard whence <= Self.lastWhence else { throw .invalidArgument }
      guard entry.file.hasSeek else { throw .illegalSeek }
      if isLong {
        let offset = Int64(bitPattern: UInt64(call.word(1)) << 32 | UInt64(call.word(2)))
        let position = try entry.file.seek(offset, from: Int32(bitPattern: whence))
        try client.store(position, at: call[3])
        return .value(0)
      }
      let offset =
        call.architecture == .i386
        ? Int64(Int32(bitPattern: call.word(1))) : Int64(bitPattern: call[1])
      return .value(try entry.file.seek(offset, from: Int32(bitPattern: whence)))
    }
  }

  /// SEEK_MAX
  private static let lastWhence: UInt32 = 4
}

/// F_… commands of fcntl(2) that are trapped.
enum FileControl: UInt32, CaseIterable {
  case getStatusFlags = 3
  /// Trapped when it sets O_DIRECT.
  case setStatusFlags = 4
  case getLock = 5
  case setLock = 6
  case awaitLock = 7
  /// The commands of 32-bit ABIs for struct flock64.
  case getLock64 = 12
  case setLock64 = 13
  case awaitLock64 = 14
  case getOpenFileLock = 36
  case setOpenFileLock = 37
  case awaitOpenFileLock = 38
  case setLease = 1024
  case addSeals = 1033
  case getSeals = 1034

  var isOfOpenFileLocks: Bool {
    self == .getOpenFileLock || self == .setOpenFileLock || self == .awaitOpenFileLock
  }
}
