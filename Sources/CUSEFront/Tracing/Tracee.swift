// SPDX-License-Identifier: Apache-2.0

// How the server makes system calls in a client's thread, at the end of the thread's ioctl.
//
// An unmodified client gets a new descriptor only when the client itself opens it. The server
// thread that runs the device's call orders the steps:
//
//   1  the device has done all that can fail, and asks for a descriptor
//   2  the thread is seized and interrupted; it sleeps in FUSE's wait and cannot stop yet
//   3  its ioctl is answered, with an errno that nothing can turn into a restart or EINTR: the
//      thread stops after the call, before it has executed one instruction
//   4  openat(2) is injected into the thread, the server stores the number, and last the register
//      that holds the ioctl's result is set
//
// The process that calls ptrace(2) is another one, the `Tracer`'s.

internal import Glibc
internal import Host
internal import SystemPackage

/// The end of the ioctl that `request` asks for, where the calling thread can be stopped.
struct InjectionPoint {
  private let task: HostTask
  private let request: CUSERequest
  private let tracer: Tracer

  init(_ task: HostTask, answering request: CUSERequest, tracer: Tracer) {
    self.task = task
    self.request = request
    self.tracer = tracer
  }

  /// Seizes the thread and answers the ioctl, so that the thread stops. When this throws, the ioctl
  /// has not been answered.
  ///
  /// A thread that dies meanwhile causes no error here, but every later use of it fails.
  /// - Throws: as `SeizedThread.init(seizing:)`; `.noSuchProcess` when the thread is being killed.
  func stopThread() throws(Errno) -> Tracee {
    let thread = try Tracee(task, tracer: tracer)
    guard request.reply(ioctl: -Errno.connectionAbort.rawValue) else {
      // The thread is being killed, and its ioctl was answered early.
      thread.resume(returning: -EINTR)
      throw .noSuchProcess
    }
    return thread
  }
}

/// A client's thread that stops at the end of its ioctl, as the server sees it. Every function is a
/// request to the tracer process, which has the thread as a ``SeizedThread``.
final class Tracee {
  let task: HostTask
  private let connection: Tracer.Connection

  fileprivate init(_ task: HostTask, tracer: Tracer) throws(Errno) {
    self.task = task
    connection = try tracer.connect()
    _ = try connection.send(.seize, task.id)
  }

  /// Opens `path` in the thread, for reading and writing, close-on-exec.
  /// - Returns: the descriptor's number.
  func open(_ path: String) throws(Errno) -> Int32 {
    Int32(try connection.send(.open, bytes: Array(path.utf8)))
  }

  /// Closes a descriptor of the thread.
  func close(_ number: Int32) {
    _ = try? connection.send(.close, number)
  }

  /// Makes a copy in the thread, close-on-exec, of the descriptor that `open` returns.
  /// - Parameter open: runs in an ``UnsharedTable``.
  /// - Returns: the number of the copy.
  /// - Throws: `.notSupported` when the thread is in another network namespace,
  ///   `.tooManyOpenFiles`.
  func receiveDescriptor(
    from open: @escaping @Sendable () throws(Errno) -> OwnedDescriptor
  ) throws(Errno) -> Int32 {
    let sender = try DescriptorSocket()
    let socket = Int32(try connection.send(.connect, bytes: sender.name))
    do throws(Errno) {
      try sender.send(to: try task.processID(), open)
    } catch {
      close(socket)
      throw error
    }
    return Int32(try connection.send(.receive, socket))
  }

  /// Makes an agent from the thread, and detaches from the thread, which makes its ioctl again.
  /// - Parameter allowedFilters: as in `SeizedThread.makeAgent(allowedFilters:)`.
  func makeAgent(allowedFilters: Int) throws(Errno) -> RemoteAgent {
    let agent = Int32(try connection.send(.makeAgent, Int32(allowedFilters)))
    return try RemoteAgent(HostTask(id: agent), connection)
  }

  /// Detaches from the thread, whose ioctl returns `result`, a value or -errno.
  func resume(returning result: Int32) {
    _ = try? connection.send(.resume, result)
  }
}
