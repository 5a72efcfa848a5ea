// SPDX-License-Identifier: Apache-2.0

internal import FrontEnd
internal import Glibc
internal import Host
internal import SystemPackage

/// A listening socket for one descriptor that is sent to a client. The kernel chooses its name.
struct DescriptorSocket {
  let name: [UInt8]
  private let listener: OwnedDescriptor

  init() throws(Errno) {
    let kind = SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue
    let descriptor = socket(AF_UNIX, Int32(kind), 0)
    guard descriptor >= 0 else { throw Errno(rawValue: errno) }
    listener = OwnedDescriptor(owning: descriptor)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    // An address without a name makes the kernel choose one.
    var length = socklen_t(MemoryLayout<sa_family_t>.size)
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

  /// Sends the descriptor that `open` returns to `process`, which has connected. Skips connections
  /// of other processes, which may have found the name.
  /// - Parameter open: runs in an ``UnsharedTable``.
  func send(
    to process: Int32, _ open: @escaping @Sendable () throws(Errno) -> OwnedDescriptor
  ) throws(Errno) {
    try UnsharedTable.run { [number = listener.rawValue] () throws(Errno) in
      let listener = try UnsharedTable.copy(of: number)
      let descriptor = try open()
      while true {
        let peer = try OwnedDescriptor(checking: Self.accept(listener))
        guard Self.processConnected(to: peer) == process else { continue }
        return try UnixSocket.send(descriptor, over: peer)
      }
    }
  }

  /// Returns a connection, or -errno.
  private static func accept(_ listener: OwnedDescriptor) -> Int32 {
    let connection = Glibc.accept(listener.rawValue, nil, nil)
    return connection >= 0 ? connection : -errno
  }

  private static func processConnected(to peer: OwnedDescriptor) -> Int32 {
    var credentials: (pid: Int32, uid: UInt32, gid: UInt32) = (0, 0, 0)
    var length = socklen_t(MemoryLayout.size(ofValue: credentials))
    getsockopt(peer.rawValue, SOL_SOCKET, SO_PEERCRED, &credentials, &length)
    return credentials.pid
  }
}
