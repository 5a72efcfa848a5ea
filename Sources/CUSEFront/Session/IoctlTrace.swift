// `serve --log-level trace`: a line for each ioctl, with its struct as the client gave it and what
// the call changed, in the words of `run --trace`.

internal import Host
internal import Logging
internal import SystemPackage
internal import UAPI

struct IoctlTrace {
  private let call: String
  private let argument: UInt64
  private let ioctl: Ioctl?
  private let before: IoctlSnapshot?
  /// The client's memory by itself: looking on must not count as the call's own access.
  private let memory: CallerMemory
  private let log: Logger

  /// - Returns: nil when nobody wants to know.
  init?(
    _ number: UInt32, argument: UInt64, by task: HostTask, on file: any OpenFile, of node: String,
    log: Logger
  ) {
    guard log.logLevel <= .trace else { return nil }
    (self.argument, self.log) = (argument, log)
    memory = CallerMemory(task: task)
    ioctl = file.ioctls[IoctlNumber(rawValue: number)]
    before = ioctl?.snapshot(at: argument, in: memory)
    let name = ioctl?.name ?? "0x" + String(number, radix: 16)
    let given = before?.text ?? "0x" + String(argument, radix: 16)
    call = "[\(task.id)] ioctl(\(node), \(name), \(given))"
  }

  /// The call has been done; its client does not go on yet.
  func record(_ result: Int32) {
    let answer = result < 0 ? "-1 \(Errno(rawValue: -result).symbol)" : "\(result)"
    let after = ioctl?.snapshot(at: argument, in: memory)
    let changes = before.flatMap { before in after?.changes(since: before) } ?? ""
    log.trace("\(call) = \(answer)\(changes)")
  }
}
