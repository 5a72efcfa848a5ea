// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage

/// The process that traces clients' threads with ptrace(2), a child of the server.
///
/// A thread in which system calls are injected has foreign register values, and all its signals are
/// blocked. When its tracer ends, the kernel detaches from the thread in that state. The tracer
/// must therefore not end in between, while the server may be killed at any moment. So the tracer
/// is a process that does nothing else. The end of its connections tells it that the server has
/// ended. It then makes each stopped thread return from its ioctl with ECONNABORTED, as if the
/// thread had never been stopped.
///
/// There is one connection (a socket pair), and one thread in the tracer process, for each client
/// thread that is stopped at a time. One connection is kept for the next client thread.
///
/// This class is the server's side. The other side is `runTracer(_:)`.
final class Tracer: Sendable {
  /// The socket over which the tracer process receives its end of each connection.
  private let control: OwnedDescriptor
  /// The connection that is kept. Others end after their use, and so do their threads.
  private let idle = Mutex<OwnedDescriptor?>(nil)

  /// Starts the process. To be called while this process has one thread.
  init() throws(Errno) {
    let (mine, other) = try UnixSocket.pair()
    let child = CLinux_fork_helper(other.rawValue, runTracer)
    guard child >= 0 else { throw Errno(rawValue: -child) }
    control = mine
  }

  /// Returns a connection for one client thread. It may be reused when the last reference to it
  /// goes.
  func connect() throws(Errno) -> Connection {
    if let used = idle.withLock({ $0.take() }) { return Connection(used, of: self) }
    let (mine, other) = try UnixSocket.pair()
    do throws(Errno) {
      try UnixSocket.send(other, over: control)
    } catch {
      throw .notSupported  // the tracer process was killed
    }
    return Connection(mine, of: self)
  }

  private func keep(_ socket: OwnedDescriptor) {
    idle.withLock { $0 = socket }
  }

  /// A connection to one thread of the tracer process.
  final class Connection {
    private let socket: OwnedDescriptor
    private let tracer: Tracer
    private var isBroken = false

    fileprivate init(_ socket: OwnedDescriptor, of tracer: Tracer) {
      self.socket = socket
      self.tracer = tracer
    }

    deinit {
      if !isBroken { tracer.keep(socket) }
    }

    /// Sends a request and waits for the reply.
    /// - Throws: the error in the reply; `.notSupported` when the tracer process was killed.
    func send(
      _ kind: TracerRequest.Kind, _ value: Int32 = 0, bytes: [UInt8] = []
    ) throws(Errno) -> Int64 {
      guard TracerRequest(kind, value, bytes).send(over: socket),
        let reply = TracerReply.receive(from: socket)
      else {
        isBroken = true
        throw .notSupported
      }
      guard !(-4095..<0).contains(reply) else { throw Errno(rawValue: CInt(-reply)) }
      return reply
    }

    /// Ends the connection at once, also while another thread waits for a reply.
    func shutDown() { shutdown(socket.rawValue, Int32(SHUT_RDWR)) }

    /// Ends the connection, instead of keeping it for another client thread.
    func discard() { isBroken = true }
  }
}
