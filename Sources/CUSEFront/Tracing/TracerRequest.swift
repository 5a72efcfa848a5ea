// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Host

/// A message from the server to a thread of the tracer process: kind and value, then bytes.
struct TracerRequest {
  /// What the thread does. The reply is a value or -errno.
  enum Kind: Int32 {
    /// Seizes a client thread. Value: its id.
    case seize
    /// Opens a path. Bytes: the path. Reply: the descriptor.
    case open
    /// Value: the descriptor to close.
    case close
    /// Connects a new socket. Bytes: the name of the server's socket. Reply: the new socket.
    case connect
    /// Receives a descriptor. Value: the socket, which is closed. Reply: the descriptor.
    case receive
    /// Detaches from the client thread. Value: the result of its ioctl.
    case resume
    /// Makes an agent that shares the client thread's memory, and detaches from the thread, which
    /// makes its ioctl again. Value: the seccomp filters that the thread may have. Reply: the
    /// agent's id. The connection then serves the agent.
    case makeAgent
    /// Executes a system call in the agent. Bytes: its number and arguments, 8 bytes each. Reply:
    /// the result.
    case agentCall
  }

  let kind: Kind
  let value: Int32
  let bytes: [UInt8]
  private static let limit = 256

  init(_ kind: Kind, _ value: Int32, _ bytes: [UInt8]) {
    self.kind = kind
    self.value = value
    self.bytes = bytes
  }

  /// Waits for the next request. Returns `nil` when the server has closed the connection.
  init?(from socket: OwnedDescriptor) {
    var message = [UInt8](repeating: 0, count: Self.limit)
    let count = message.withUnsafeMutableBytes { receiveMessage(into: $0, from: socket) }
    guard count >= 8 else { return nil }
    let (number, value) = message.withUnsafeBytes {
      ($0.loadUnaligned(as: Int32.self), $0.loadUnaligned(fromByteOffset: 4, as: Int32.self))
    }
    guard let kind = Kind(rawValue: number) else { return nil }
    self.init(kind, value, Array(message[8..<count]))
  }

  /// ``bytes`` as words of 8 bytes.
  var words: [UInt64] {
    bytes.withUnsafeBytes { bytes in
      stride(from: 0, to: bytes.count & ~7, by: 8).map {
        bytes.loadUnaligned(fromByteOffset: $0, as: UInt64.self)
      }
    }
  }

  /// - Returns: false when the other end is closed, or the request is too long.
  func send(over socket: OwnedDescriptor) -> Bool {
    let message =
      [kind.rawValue, value].flatMap { word in
        withUnsafeBytes(of: word) { [UInt8]($0) }
      } + bytes
    guard message.count <= Self.limit else { return false }
    return Glibc.send(socket.rawValue, message, message.count, Int32(MSG_NOSIGNAL))
      == message.count
  }
}

/// The reply to a ``TracerRequest``: one Int64, a value or -errno.
enum TracerReply {
  static func send(_ reply: Int64, over socket: OwnedDescriptor) {
    withUnsafeBytes(of: reply) { bytes in
      _ = Glibc.send(socket.rawValue, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
    }
  }

  /// Waits for the reply. Returns `nil` when the tracer process has closed the connection.
  static func receive(from socket: OwnedDescriptor) -> Int64? {
    var reply: Int64 = 0
    let count = withUnsafeMutableBytes(of: &reply) { receiveMessage(into: $0, from: socket) }
    return count == MemoryLayout<Int64>.size ? reply : nil
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
