// A client's thread, held at the end of its ioctl, in which the server makes system calls.
//
// The one way to give an unmodified client a new descriptor is that the client itself opens it. The
// order of events, all ordered by the server thread that runs the device's call:
//
//   1  the device has done all that can fail and asks for a descriptor
//   2  the thread is seized and interrupted; it sleeps in FUSE's wait and cannot stop yet
//   3  its ioctl is answered, with an errno that nothing can turn into a restart or EINTR: the
//      thread stops after the call, before it has executed one instruction
//   4  it is made to call openat(2), the server stores the number, and finally the register that
//      holds the ioctl's result is set
//
// What is done to the thread is done by another process, the `Tracer`.

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage

/// A place where a thread can be held: the end of the ioctl that `request` will answer.
struct InjectionPoint {
  private let task: HostTask
  private let request: Request
  private let holder: Tracer

  init(_ task: HostTask, answering request: Request, holder: Tracer) {
    self.task = task
    self.request = request
    self.holder = holder
  }

  /// Holds the thread and answers the ioctl. On an error the ioctl has not been answered.
  ///
  /// A thread that dies meanwhile is no error here: every later use of it fails.
  /// - Throws: as `TracedThread.init(seizing:)`.
  func hold() throws(Errno) -> Tracee {
    let thread = try Tracee(task, holder: holder)
    request.reply(ioctl: -Errno.connectionAbort.rawValue)
    return thread
  }
}

final class Tracee {
  let task: HostTask
  private let channel: Tracer.Channel

  fileprivate init(_ task: HostTask, holder: Tracer) throws(Errno) {
    self.task = task
    channel = try holder.channel()
    _ = try channel.order(.seize, task.id)
  }

  /// Opens `path` for reading and writing, close-on-exec.
  func open(_ path: String) throws(Errno) -> Int32 {
    try channel.order(.open, bytes: Array(path.utf8))
  }

  func close(_ number: Int32) {
    _ = try? channel.order(.close, number)
  }

  /// Makes a copy of what `open` opens in the thread, close-on-exec. `open` runs in an ``UnsharedTable``.
  /// - Throws: `.notSupported` from another network namespace, `.tooManyOpenFiles`.
  func receive(
    _ open: @escaping @Sendable () throws(Errno) -> OwnedDescriptor
  ) throws(Errno) -> Int32 {
    let rendezvous = try DescriptorSocket()
    let socket = try channel.order(.connect, bytes: rendezvous.name)
    do throws(Errno) {
      try rendezvous.send(to: try task.processID(), open)
    } catch {
      close(socket)
      throw error
    }
    return try channel.order(.receive, socket)
  }

  /// Lets the thread go on, its ioctl returning `result`, a value or -errno.
  func finish(returning result: Int32) {
    _ = try? channel.order(.finish, result)
  }
}
