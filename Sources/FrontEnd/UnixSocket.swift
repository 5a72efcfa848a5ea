// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
package import Host
package import SystemPackage

/// Sockets between processes of one machine (unix(7)).
package enum UnixSocket {
  /// Returns the two ends of a SOCK_SEQPACKET pair, both close-on-exec.
  package static func pair() throws(Errno) -> (OwnedDescriptor, OwnedDescriptor) {
    var ends: [Int32] = [-1, -1]
    let type = Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, type, 0, &ends) == 0 else { throw Errno(rawValue: errno) }
    return (OwnedDescriptor(owning: ends[0]), OwnedDescriptor(owning: ends[1]))
  }

  /// Sends a copy of `descriptor` over `socket` (SCM_RIGHTS).
  package static func send(
    _ descriptor: OwnedDescriptor, over socket: OwnedDescriptor
  ) throws(Errno) {
    let sent = CLinux_send_descriptor(socket.rawValue, descriptor.rawValue)
    guard sent >= 0 else { throw Errno(rawValue: -sent) }
  }

  /// Waits for a descriptor that ``send(_:over:)`` sent.
  /// - Throws: `.socketNotConnected` when the other end is closed.
  package static func receiveDescriptor(from socket: Int32) throws(Errno) -> OwnedDescriptor {
    try OwnedDescriptor(checking: CLinux_receive_descriptor(socket))
  }
}
