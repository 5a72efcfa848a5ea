// SPDX-License-Identifier: Apache-2.0

// The stand-in of a queue: a SEQPACKET socket pair, of which the program holds one end and the
// server the other.
//
//   readable      an empty message waits in the program's end; poll, select and epoll report it
//   writable      a socket is writable by itself; for a queue that never is, the send buffer of the
//                 program's end is filled
//   last close    the kernel reports a hang-up on the server's end
//   read, write   trapped by descriptor number (`firstQueueDescriptor`) and answered from the queue
//
// A program that duplicates the descriptor to a number below `firstQueueDescriptor` reads the
// socket itself: an empty message or, after a clock tick, EAGAIN. The program never gets bytes that
// are not the queue's and never waits long.

internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

final class QueueStandIn: Sendable {
  /// The server's end.
  let descriptor: OwnedDescriptor
  private let charge: ChargedShares.Charge
  /// Whether messages may wait in the program's end. The lock is held while messages are sent or
  /// received.
  private let hasMessages = Mutex(false)
  /// The identity of the program's end.
  let identity: StandInIdentity
  /// The descriptor that referred to the program's end when the program used it last.
  private let lastDescriptor = Mutex<(task: HostTask, number: Int32)?>(nil)

  /// Makes a socket pair for a queue with the given readiness.
  /// - Returns: the stand-in, and the program's end for the program.
  static func make(
    _ readiness: Readiness, for client: ClientIdentity
  ) throws(Errno) -> (QueueStandIn, OwnedDescriptor) {
    let charge = try ChargedShares.descriptors.charge(client)
    let (descriptor, theirs) = try UnixSocket.pair()
    let standIn = QueueStandIn(
      descriptor, charge: charge, identity: try StandInIdentity(of: theirs))
    var tick = timeval(tv_sec: 0, tv_usec: 1)
    let size = socklen_t(MemoryLayout<timeval>.size)
    setsockopt(theirs.rawValue, SOL_SOCKET, SO_RCVTIMEO, &tick, size)
    setsockopt(theirs.rawValue, SOL_SOCKET, SO_SNDTIMEO, &tick, size)
    if !readiness.contains(.writable) { fillSendBuffer(of: theirs) }
    return (standIn, theirs)
  }

  private init(
    _ descriptor: OwnedDescriptor, charge: ChargedShares.Charge, identity: StandInIdentity
  ) {
    self.descriptor = descriptor
    self.charge = charge
    self.identity = identity
  }

  /// Sends messages, which are never received, until the socket has no room and so is not writable.
  private static func fillSendBuffer(of socket: OwnedDescriptor) {
    var smallest: Int32 = 1
    setsockopt(
      socket.rawValue, SOL_SOCKET, SO_SNDBUF, &smallest, socklen_t(MemoryLayout<Int32>.size))
    let filler = [UInt8](repeating: 0, count: 1024)
    for _ in 0..<16 {
      let sent = send(
        socket.rawValue, filler, filler.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
      if sent < 0 { return }
    }
  }

  /// Updates the readiness of the program's end after a change of the queue. When the queue is
  /// readable, sends one more message even if one waits already, because an edge-triggered epoll
  /// reports each new message; when the socket is full, there are messages enough. When something
  /// other than the program's read has emptied the queue, receives the messages.
  func updateReadiness(_ file: any OpenFile) {
    let last = lastDescriptor.withLock { $0 }
    hasMessages.withLock { hasMessages in
      if file.readiness().contains(.readable) {
        sendMessage(&hasMessages)
      } else if hasMessages, let last {
        receiveMessages(&hasMessages, through: last.number, of: last.task)
      }
    }
  }

  /// Records that descriptor `number` of `task` refers to the program's end.
  func recordDescriptor(_ number: Int32, of task: HostTask) {
    lastDescriptor.withLock { $0 = (task, number) }
  }

  /// Updates the readiness after the program has read the queue through descriptor `number` of
  /// `task`: when the queue is not readable any more, receives the messages.
  func updateReadiness(_ file: any OpenFile, afterReadOf number: Int32, of task: HostTask) {
    recordDescriptor(number, of: task)
    hasMessages.withLock { hasMessages in
      guard hasMessages, !file.readiness().contains(.readable) else { return }
      receiveMessages(&hasMessages, through: number, of: task)
    }
  }

  /// Receives all messages from the program's end, through a copy of descriptor `number` of `task`.
  /// When this descriptor does not refer to the program's end any more, the messages stay, and a
  /// read of the program finds the queue empty.
  private func receiveMessages(
    _ hasMessages: inout Bool, through number: Int32, of task: HostTask
  ) {
    guard let theirs = try? task.duplicateDescriptor(number),
      (try? StandInIdentity(of: theirs)) == identity
    else { return }
    var byte: UInt8 = 0
    while recv(theirs.rawValue, &byte, 1, Int32(MSG_DONTWAIT)) >= 0 {}
    hasMessages = false
  }

  private func sendMessage(_ hasMessages: inout Bool) {
    hasMessages = true
    send(
      descriptor.rawValue, nil, 0, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
  }
}
