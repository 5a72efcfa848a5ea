// The second way to give a held thread a descriptor: over a socket (SCM_RIGHTS). It needs no path,
// only that both sides share a network namespace, and costs four injected calls instead of one.
//
// The descriptor's number is one above the lowest free one, which the socket has.

#if arch(x86_64)
  internal import CLinux
  internal import Glibc
  internal import Host
  internal import SystemPackage

  extension HeldThread {
    /// Makes a copy of `descriptor` in the thread, close-on-exec.
    /// - Throws: `.notSupported` from another network namespace, `.tooManyOpenFiles`.
    func receive(_ descriptor: OwnedDescriptor) throws(Errno) -> Int32 {
      let rendezvous = try Rendezvous()
      let stream = UInt64(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
      let socket = try call(Call.socket, UInt64(AF_UNIX), stream)
      defer { close(Int32(socket)) }

      let message = Message(name: rendezvous.name, at: scratchAddress(Message.length))
      return try withScratch(message.bytes) { _ throws(Errno) in
        do throws(Errno) {
          _ = try call(
            Call.connect, UInt64(socket), message.nameAddress, UInt64(rendezvous.name.count))
        } catch {
          throw error == Errno.connectionRefused ? .notSupported : error
        }
        try rendezvous.send(descriptor, to: try task.processID())
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

  /// A listening socket with a name that the kernel made up, for one connection.
  private struct Rendezvous {
    let name: [UInt8]
    private let listener: OwnedDescriptor

    init() throws(Errno) {
      let kind = SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue
      let descriptor = socket(AF_UNIX, Int32(kind), 0)
      guard descriptor >= 0 else { throw Errno(rawValue: errno) }
      listener = OwnedDescriptor(owning: descriptor)
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      var length = socklen_t(MemoryLayout<sa_family_t>.size)  // no name: the kernel chooses one
      let status = withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
          guard bind(descriptor, address, length) == 0, listen(descriptor, 16) == 0 else {
            return -errno
          }
          length = socklen_t(MemoryLayout<sockaddr_un>.size)
          return getsockname(descriptor, address, &length) == 0 ? 0 : -errno
        }
      }
      guard status == 0 else { throw Errno(rawValue: -status) }
      name = withUnsafeBytes(of: address) { Array($0.prefix(Int(length))) }
    }

    /// Sends `descriptor` to the process that has connected. Others may have found the name, too.
    func send(_ descriptor: OwnedDescriptor, to process: Int32) throws(Errno) {
      while true {
        let connection = accept(listener.rawValue, nil, nil)
        guard connection >= 0 else { throw Errno(rawValue: errno) }
        let peer = OwnedDescriptor(owning: connection)
        var credentials: (pid: Int32, uid: UInt32, gid: UInt32) = (0, 0, 0)
        var length = socklen_t(MemoryLayout.size(ofValue: credentials))
        getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &credentials, &length)
        guard credentials.pid == process else { continue }
        let sent = CLinux_send_descriptor(peer.rawValue, descriptor.rawValue)
        guard sent >= 0 else { throw Errno(rawValue: -sent) }
        return
      }
    }
  }
#endif
