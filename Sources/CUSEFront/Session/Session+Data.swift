// The messages of read(2), write(2) and their relatives.

internal import FrontEnd
internal import Host
internal import Logging
internal import SystemPackage
internal import UAPI

/// What one message asks for: `count` bytes after the first `start` of the call that `task` is in.
private struct DataMessage {
  let file: ServedFile
  let task: HostTask
  let start: Int
  let count: Int
}

extension Session {
  func read(_ request: Request, _ count: Int, after start: Int, from served: ServedFile) {
    let message = DataMessage(
      file: served, task: HostTask(id: request.taskID), start: start, count: count)
    services.gate.run(for: served.owner) { [self] in
      do throws(Errno) {
        let memory = BufferMemory(count: count)
        let answer = try perform(message, through: memory) { (buffer, offset) throws(Errno) in
          try served.file.read(into: buffer, at: offset)
        }
        try memory.withBytes { (bytes) throws(Errno) in
          let done = min(max(answer.count, 0), count)
          let bytes = UnsafeMutableRawBufferPointer(rebasing: bytes[..<done])
          try answer.cut?.gather(after: start, into: bytes, from: CallerMemory(task: message.task))
          request.reply(UnsafeRawBufferPointer(bytes))
        }
      } catch {
        request.fail(error)
      }
    }
  }

  func write(
    _ request: Request, _ data: UnsafeRawBufferPointer, after start: Int, to served: ServedFile
  ) {
    let message = DataMessage(
      file: served, task: HostTask(id: request.taskID), start: start, count: data.count)
    let memory = Unchecked(BufferMemory(copying: data))
    services.gate.run(for: served.owner) { [self] in
      do throws(Errno) {
        let answer = try perform(message, through: memory.value) {
          (buffer, offset) throws(Errno) in
          try served.file.write(from: buffer, at: offset)
        }
        request.reply(written: answer.count)
      } catch {
        request.fail(error)
      }
    }
  }

  /// Has the device do what the message asks for: through `memory` when that is all of the caller's
  /// call, else on the caller's own.
  /// - Returns: the bytes done of the message, and the call when it is on the caller's memory.
  private func perform(
    _ message: DataMessage, through memory: BufferMemory,
    _ move: (UserBuffer, _ offset: UInt64) throws(Errno) -> Int
  ) throws(Errno) -> (count: Int, cut: Transfer?) {
    let call: TransferCall
    if device is QueueDevice {
      // It has no offset, and a look at the call would cost half as much as the read. But a queue
      // takes whole records only: what it refuses may be a part of what would be to its liking.
      do {
        return (try move(UserBuffer(memory), 0), nil)
      } catch {
        guard let refused = try? callOf(message.task), !refused.isOneBuffer(of: message.count)
        else {
          throw error
        }
        call = refused
      }
    } else {
      call = try callOf(message.task)
      if call.isOneBuffer(of: message.count) {
        return (try move(UserBuffer(memory), call.offset ?? 0), nil)
      }
    }
    let caller = CallerMemory(task: message.task)
    let answer = try message.file.cutTransfers.answer(
      to: message.task.id, message.count, after: message.start
    ) { () throws(Errno) in
      let transfer = try call.transfer(in: caller)
      let done = try transfer.run(in: caller) { (buffer, done) throws(Errno) in
        try move(buffer, (call.offset ?? 0) &+ UInt64(done))
      }
      return (transfer, done)
    }
    return (answer.count, answer.transfer)
  }

  private func callOf(_ task: HostTask) throws(Errno) -> TransferCall {
    let blocked: BlockedCall
    do {
      blocked = try BlockedCall(of: task)
    } catch {
      guard error != .invalidArgument else { throw error }
      services.log.warning(
        "\(node): no offset for thread \(task.id): /proc/\(task.id)/syscall: \(error)")
      throw .notPermitted
    }
    guard let call = blocked.transfer else { throw .invalidArgument }
    return call
  }
}

/// A value that one closure uses after another has made it.
private struct Unchecked<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}
