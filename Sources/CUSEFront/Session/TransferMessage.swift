// SPDX-License-Identifier: Apache-2.0

internal import FrontEnd
internal import Host
internal import Logging
internal import SystemPackage
internal import UAPI

/// One message of a read(2), a write(2) or one of their relatives: `count` bytes after the first
/// `start` bytes of the call in which `task` is blocked.
///
/// The message lacks facts about the call. Its offset starts at 0, because the node has no file
/// position and CUSE drops the offset of pread(2). It has as many bytes as FUSE could reach, which
/// may be fewer than the caller asked for. It does not show how a vector divides the bytes. All of
/// this is read from /proc/<tid>/syscall, because the caller is blocked in the call.
struct TransferMessage {
  private let direction: TransferDirection
  private let file: ServedFile
  private let task: HostTask
  private let start: Int
  private let count: Int

  init(
    _ direction: TransferDirection, of file: ServedFile, by task: HostTask, start: Int, count: Int
  ) {
    self.direction = direction
    self.file = file
    self.task = task
    self.start = start
    self.count = count
  }

  var callerMemory: CallerMemory { CallerMemory(task: task) }

  /// Calls the device: on `memory` when the message is the whole call of the caller, otherwise on
  /// the caller's own memory.
  /// - Returns: the bytes of this message that were moved, and the memory of the call when it ran
  ///   on the caller's memory.
  func perform(
    through memory: BufferMemory, on session: CUSESession
  ) throws(Errno) -> (count: Int, split: Transfer?) {
    let call: TransferCall
    if session.device is QueueDevice {
      // A queue has no offset, and reading the call from /proc would cost half as much as the read
      // itself. But a queue moves whole records only: the message that it refuses may be a part of
      // a call that it would accept.
      do throws(Errno) {
        return (try move(UserBuffer(memory), at: 0), nil)
      } catch {
        guard let refused = try? blockedCall(on: session), !refused.isOneBuffer(of: count) else {
          throw error
        }
        call = refused
      }
    } else {
      call = try blockedCall(on: session)
      if call.isOneBuffer(of: count) {
        return (try move(UserBuffer(memory), at: call.offset ?? 0), nil)
      }
    }
    let caller = callerMemory
    let answer = try file.splitTransfers.answer(to: task.id, count, after: start) {
      () throws(Errno) in
      let transfer = try call.transfer(in: caller)
      let done = try transfer.run(in: caller) { (buffer, done) throws(Errno) in
        try move(buffer, at: (call.offset ?? 0) &+ UInt64(done))
      }
      return (transfer, done)
    }
    return (answer.count, answer.transfer)
  }

  private func move(_ buffer: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    try direction.perform(on: file.file, buffer, at: offset)
  }

  /// Returns the call in which the caller is blocked.
  /// - Throws: `.notPermitted` when /proc does not show the call (no ptrace rights over the
  ///   caller), `.invalidArgument` when the caller is not blocked in a read or write (io_uring,
  ///   splice).
  private func blockedCall(on session: CUSESession) throws(Errno) -> TransferCall {
    let blocked: BlockedCall
    do {
      blocked = try BlockedCall(of: task)
    } catch {
      guard error != .invalidArgument else { throw error }
      session.resources.log.warning(
        """
        \(session.node): the offset of a read or write by thread \(task.id) is unknown: \
        /proc/\(task.id)/syscall: \(error)
        """)
      throw .notPermitted
    }
    guard let call = blocked.transfer else { throw .invalidArgument }
    return call
  }
}
