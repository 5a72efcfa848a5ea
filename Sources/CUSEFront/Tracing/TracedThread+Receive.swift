// The second way to give a held thread a descriptor: over a socket (SCM_RIGHTS). It needs no path,
// only that both sides share a network namespace, and costs four injected calls instead of one.
//
// The descriptor's number is one above the lowest free one, which the socket has.

#if arch(x86_64)
  internal import Glibc
  internal import SystemPackage

  extension TracedThread {
    /// Connects a new socket of the thread's to the socket of that name.
    /// - Throws: `.notSupported` from another network namespace, `.tooManyOpenFiles`.
    func connect(to name: [UInt8]) throws(Errno) -> Int32 {
      let stream = UInt64(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
      let socket = try call(Call.socket, UInt64(AF_UNIX), stream)
      do throws(Errno) {
        let message = Message(name: name, at: scratchAddress(Message.length))
        _ = try withScratch(message.bytes) { _ throws(Errno) in
          try call(Call.connect, UInt64(socket), message.nameAddress, UInt64(name.count))
        }
      } catch {
        close(Int32(socket))
        throw error == Errno.connectionRefused ? .notSupported : error
      }
      return Int32(socket)
    }

    /// The descriptor that was sent to `socket`, which is closed, close-on-exec.
    func receive(from socket: Int32) throws(Errno) -> Int32 {
      defer { close(socket) }
      let message = Message(name: [], at: scratchAddress(Message.length))
      return try withScratch(message.bytes) { _ throws(Errno) in
        let closeOnExec: UInt64 = 0x4000_0000  // MSG_CMSG_CLOEXEC
        _ = try call(Call.recvmsg, UInt64(socket), message.headerAddress, closeOnExec)
        let control = try read(Message.controlLength, at: message.controlAddress)
        return try Message.descriptor(in: control)
      }
    }

    private enum Call {
      static let socket = 41
      static let connect = 42
      static let recvmsg = 47
    }
  }

  /// The thread's memory for connect(2) and recvmsg(2): msghdr, iovec, control, data, name.
  private struct Message {
    static let controlLength = 24  // CMSG_SPACE(sizeof(int))
    private static let headerLength = 56
    private static let vectorLength = 16
    private static let nameCapacity = 112
    static let length = headerLength + vectorLength + controlLength + 8 + nameCapacity

    let bytes: [UInt8]
    let headerAddress: UInt64
    var controlAddress: UInt64 {
      headerAddress &+ UInt64(Self.headerLength + Self.vectorLength)
    }
    var nameAddress: UInt64 { controlAddress &+ UInt64(Self.controlLength + 8) }

    init(name: [UInt8], at address: UInt64) {
      headerAddress = address
      let vector = address &+ UInt64(Self.headerLength)
      let control = vector &+ UInt64(Self.vectorLength)
      let data = control &+ UInt64(Self.controlLength)
      // msg_name, msg_namelen, msg_iov, msg_iovlen, msg_control, msg_controllen, msg_flags
      let words: [UInt64] =
        [0, 0, vector, 1, control, UInt64(Self.controlLength), 0] + [data, 1] + [0, 0, 0, 0]
      let padding = [UInt8](repeating: 0, count: max(0, Self.nameCapacity - name.count))
      bytes = words.flatMap { word in withUnsafeBytes(of: word) { [UInt8]($0) } } + name + padding
    }

    /// The descriptor in a received control message: length, level, type, number. The kernel
    /// leaves it out when the client has no free number.
    static func descriptor(in control: [UInt8]) throws(Errno) -> Int32 {
      let (length, number) = control.withUnsafeBytes {
        ($0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 16, as: Int32.self))
      }
      guard length >= 20 else { throw .tooManyOpenFiles }
      return number
    }
  }
#endif
