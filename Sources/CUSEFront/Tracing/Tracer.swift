// The process that holds clients' threads, a child of the server's.
//
// While a thread is held it has another program's registers and all its signals blocked, and when
// its tracer ends the kernel lets it go just so. A tracer must therefore not end in between, and the
// server may be killed at any moment. So the tracer is a process of its own that does nothing else. It
// hears of the server's end by the end of its channels, and then lets each thread it holds return
// from its ioctl with ECONNABORTED, as if it had never been held.
//
// One channel (a socket pair) and one thread in the holder per thread that is held at a time; one of
// them is kept for the next. Both sides of an order are here.

internal import CLinux
internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage

final class Tracer: Sendable {
  private let control: OwnedDescriptor
  /// The channel that is kept for the next thread. Others end with their use, as their threads do.
  private let idle = Mutex<OwnedDescriptor?>(nil)

  /// Starts the process. To be called while this one has one thread.
  init() throws(Errno) {
    let (mine, other) = try UnixSocket.pair()
    let child = CLinux_fork_helper(other.rawValue, holdThreads)
    guard child >= 0 else { throw Errno(rawValue: -child) }
    control = mine
  }

  /// A channel for one thread, given back when the last reference to it goes.
  func channel() throws(Errno) -> Channel {
    if let used = idle.withLock({ $0.take() }) { return Channel(used, of: self) }
    let (mine, other) = try UnixSocket.pair()
    do throws(Errno) {
      try UnixSocket.send(other, over: control)
    } catch {
      throw .notSupported  // the holder was killed
    }
    return Channel(mine, of: self)
  }

  fileprivate func putBack(_ socket: OwnedDescriptor) {
    idle.withLock { $0 = socket }
  }
}

extension Tracer {
  /// What the holder is told to do with the thread of a channel. The answer is a value or -errno.
  enum Order: Int32 {
    /// Value: the task's id.
    case seize
    /// Bytes: a path.
    case open
    /// Value: a descriptor.
    case close
    /// Bytes: a socket's name. Answer: a socket.
    case connect
    /// Value: the socket. Answer: the descriptor that was sent to it.
    case receive
    /// Value: the ioctl's result.
    case finish
  }

  final class Channel {
    private let socket: OwnedDescriptor
    private let holder: Tracer
    private var isBroken = false

    fileprivate init(_ socket: OwnedDescriptor, of holder: Tracer) {
      self.socket = socket
      self.holder = holder
    }

    deinit {
      if !isBroken { holder.putBack(socket) }
    }

    func order(_ order: Order, _ value: Int32 = 0, bytes: [UInt8] = []) throws(Errno) -> Int32 {
      var answer: Int32 = 0
      guard OrderMessage(order, value, bytes).send(to: socket),
        withUnsafeMutableBytes(of: &answer, { receiveMessage(into: $0, from: socket) }) == 4
      else {
        isBroken = true
        throw .notSupported
      }
      guard answer >= 0 else { throw Errno(rawValue: -answer) }
      return answer
    }
  }
}

/// Order and value, then bytes.
struct OrderMessage {
  private static let limit = 256
  let order: Tracer.Order
  let value: Int32
  let bytes: [UInt8]

  init(_ order: Tracer.Order, _ value: Int32, _ bytes: [UInt8]) {
    self.order = order
    self.value = value
    self.bytes = bytes
  }

  /// The next one; nil when the server is gone.
  init?(from socket: OwnedDescriptor) {
    var message = [UInt8](repeating: 0, count: Self.limit)
    let count = message.withUnsafeMutableBytes { receiveMessage(into: $0, from: socket) }
    guard count >= 8 else { return nil }
    let (number, value) = message.withUnsafeBytes {
      ($0.loadUnaligned(as: Int32.self), $0.loadUnaligned(fromByteOffset: 4, as: Int32.self))
    }
    guard let order = Tracer.Order(rawValue: number) else { return nil }
    self.init(order, value, Array(message[8..<count]))
  }

  func send(to socket: OwnedDescriptor) -> Bool {
    let message =
      [order.rawValue, value].flatMap { word in
        withUnsafeBytes(of: word) { [UInt8]($0) }
      } + bytes
    guard message.count <= Self.limit else { return false }
    return Glibc.send(socket.rawValue, message, message.count, Int32(MSG_NOSIGNAL))
      == message.count
  }
}

private func receiveMessage(
  into buffer: UnsafeMutableRawBufferPointer, from socket: OwnedDescriptor
) -> Int {
  while true {
    let count = recv(socket.rawValue, buffer.baseAddress, buffer.count, 0)
    if count < 0 && errno == EINTR { continue }
    return count
  }
}
