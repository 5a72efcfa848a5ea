// SPDX-License-Identifier: Apache-2.0

// flock(2), and the commands of fcntl(2) for locks of open files, on nodes.

internal import FrontEnd
internal import Glibc
internal import Host
internal import SystemPackage
internal import UAPI

extension Supervisor {
  func lock(_ call: TrappedCall) throws(Errno) -> Answer {
    try withOpenFile(for: call) { (entry, client) throws(Errno) in
      // The file of a device or of the debugfs has an inode of its own, as its stand-in.
      guard entry.node != nil else { return .native }
      let file = try entry.lockFile(nodeLocks, for: ClientIdentity(of: call.task))
      let operation = Int32(bitPattern: call.word(1))
      return try retry(call, waits: operation & LOCK_NB == 0) {
        flock(file.rawValue, operation | LOCK_NB)
      }
    }
  }

  /// Answers F_OFD_SETLK, F_OFD_SETLKW and F_OFD_GETLK on a node.
  func lockOpenFile(
    _ control: FileControl, _ entry: OpenFileEntry, _ client: LauncherClient, _ call: TrappedCall
  ) throws(Errno) -> Answer {
    var lock = try client.load(OpenFileLock.self, at: call[2])
    let file = try entry.lockFile(nodeLocks, for: ClientIdentity(of: call.task))
    if control == .getOpenFileLock {
      guard fcntl(file.rawValue, Int32(control.rawValue), &lock) == 0 else {
        throw Errno(rawValue: errno)
      }
      try client.store(lock, at: call[2])
      return .value(0)
    }
    // fcntl_setlk()
    if lock.type == F_RDLCK, !entry.isReadable { throw .badFileDescriptor }
    if lock.type == F_WRLCK, !entry.isWritable { throw .badFileDescriptor }
    return try retry(call, waits: control == .awaitOpenFileLock) {
      fcntl(file.rawValue, Int32(FileControl.setOpenFileLock.rawValue), &lock)
    }
  }

  /// Makes a call that does not wait until it succeeds, as long as the thread waits for it.
  private func retry(
    _ call: TrappedCall, waits: Bool, _ attempt: () -> Int32
  ) throws(Errno) -> Answer {
    while attempt() != 0 {
      guard waits, errno == EAGAIN else { throw Errno(rawValue: errno) }
      usleep(Self.retryMicroseconds)
      guard listener.isWaiting(call.id) else { throw .interrupted }
      files.processPendingEvents()
    }
    return .value(0)
  }

  private static let retryMicroseconds: UInt32 = 2000
}

/// struct flock of 64-bit processes
private struct OpenFileLock: BitwiseCopyable {
  var type: Int16
  var whence: Int16
  var padding: UInt32
  var start: Int64
  var length: Int64
  var process: Int32
  var morePadding: UInt32
}
