// SPDX-License-Identifier: Apache-2.0

#if arch(x86_64)
  internal import SystemPackage

  /// The bytes of a client's memory that an injected connect(2) or recvmsg(2) uses: msghdr, iovec,
  /// control message, data, name.
  struct SocketMessage {
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

    /// - Parameters:
    ///   - name: the socket address for connect(2).
    ///   - address: where the bytes will lie in the client's memory.
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

    /// Returns the descriptor in a received control message: length, level, type, number.
    /// - Throws: `.tooManyOpenFiles` when there is none: the kernel leaves it out when the client
    ///   has no free descriptor number.
    static func descriptor(in control: [UInt8]) throws(Errno) -> Int32 {
      let (length, number) = control.withUnsafeBytes {
        ($0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 16, as: Int32.self))
      }
      guard length >= 20 else { throw .tooManyOpenFiles }
      return number
    }
  }
#endif
