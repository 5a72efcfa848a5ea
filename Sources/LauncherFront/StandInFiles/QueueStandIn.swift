// SPDX-License-Identifier: Apache-2.0

// The stand-in of a queue: a SEQPACKET socket pair, of which the program holds one end and the
// server the other.
//
//   readable      an empty message waits in the program's end; poll, select and epoll report it
//   new event     wakes everybody who waits for the queue, whatever they wait for (iommufd:
//                 wake_up_interruptible() without a key), which an edge-triggered epoll reports. A
//                 message that arrives in the program's end wakes those who wait for data
//                 (sock_def_readable()); a message of the program's end that the server receives
//                 wakes those who wait for room (unix_write_space()). A thread that waits for both
//                 may get two reports of one event.
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
  private struct Descriptors {
    /// The first descriptor that referred to the program's end.
    var first: (task: HostTask, number: Int32)?
    /// The one that the program used last.
    var last: (task: HostTask, number: Int32)?
  }

  private struct Messages {
    /// The largest number of messages that may wait in the program's end.
    var arrived = 0
    /// The number of messages that the server can receive. Each makes one edge.
    var stored = 0
  }

  /// The server's end.
  let descriptor: OwnedDescriptor
  private let charge: ChargedShares.Charge
  /// The messages in the two ends. The lock is held while messages are sent or received.
  private let messages: Mutex<Messages>
  /// The identity of the program's end.
  let identity: StandInIdentity
  /// The descriptors through which the program's end can be copied.
  private let descriptors = Mutex(Descriptors())

  /// Makes a socket pair for a queue with the given readiness.
  /// - Returns: the stand-in, and the program's end for the program.
  static func make(
    _ readiness: Readiness, for client: ClientIdentity
  ) throws(Errno) -> (QueueStandIn, OwnedDescriptor) {
    let charge = try ChargedShares.descriptors.charge(client)
    let (descriptor, theirs) = try UnixSocket.pair()
    let identity = try StandInIdentity(of: theirs)
    var tick = timeval(tv_sec: 0, tv_usec: 1)
    let size = socklen_t(MemoryLayout<timeval>.size)
    setsockopt(theirs.rawValue, SOL_SOCKET, SO_RCVTIMEO, &tick, size)
    setsockopt(theirs.rawValue, SOL_SOCKET, SO_SNDTIMEO, &tick, size)
    var stored = 0
    if readiness.contains(.writable) {
      stored = storeMessages(of: theirs)
    } else {
      fillSendBuffer(of: theirs)
    }
    let standIn = QueueStandIn(descriptor, charge: charge, identity: identity, stored: stored)
    return (standIn, theirs)
  }

  private init(
    _ descriptor: OwnedDescriptor, charge: ChargedShares.Charge, identity: StandInIdentity,
    stored: Int
  ) {
    messages = Mutex(Messages(stored: stored))
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

  /// Sends messages from the program's end `socket`, as many as have room up to a bound.
  /// - Returns: their number.
  private static func storeMessages(of socket: OwnedDescriptor) -> Int {
    var count = 0
    while count < mostStored, sendMessage(from: socket) { count += 1 }
    return count
  }

  /// Less than the usual limit of a socket (net.unix.max_dgram_qlen).
  private static let mostStored = 8

  /// Updates the readiness of the program's end after a change of the queue, and makes the edges of
  /// a new event when the queue is readable, also when it was before. When something other than the
  /// program's read has emptied the queue, receives the messages.
  func updateReadiness(_ file: any OpenFile) {
    let readiness = file.readiness()
    messages.withLock { messages in
      if readiness.contains(.readable) {
        // First the edge of room: it reports no data to those who wait for data alone.
        if readiness.contains(.writable) { wakeWriters(&messages) }
        wakeReaders(&messages)
      } else {
        receiveMessages(&messages)
      }
    }
  }

  /// Records that descriptor `number` of `task` refers to the program's end.
  func recordDescriptor(_ number: Int32, of task: HostTask) {
    descriptors.withLock { descriptors in
      if descriptors.first == nil { descriptors.first = (task, number) }
      descriptors.last = (task, number)
    }
  }

  /// Updates the readiness after the program has read the queue through descriptor `number` of
  /// `task`: when the queue is not readable any more, receives the messages.
  func updateReadiness(_ file: any OpenFile, afterReadOf number: Int32, of task: HostTask) {
    recordDescriptor(number, of: task)
    updateReadinessAfterRead(file)
  }

  /// As ``updateReadiness(_:afterReadOf:of:)``, for a read without a descriptor.
  func updateReadinessAfterRead(_ file: any OpenFile) {
    messages.withLock { messages in
      if !file.readiness().contains(.readable) { receiveMessages(&messages) }
    }
  }

  /// Receives all messages from the program's end. When its known descriptors do not refer to it
  /// any more, the messages stay, and a read of the program finds the queue empty.
  private func receiveMessages(_ messages: inout Messages) {
    guard messages.arrived > 0, let theirs = copyProgramsEnd() else { return }
    while Self.receiveMessage(at: theirs) {}
    messages.arrived = 0
  }

  private func wakeReaders(_ messages: inout Messages) {
    if !Self.sendMessage(from: descriptor) {
      // The program's end is full. One message stays, so that it is always readable.
      guard let theirs = copyProgramsEnd() else { return }
      while messages.arrived > 1, Self.receiveMessage(at: theirs) { messages.arrived -= 1 }
      guard Self.sendMessage(from: descriptor) else { return }
    }
    messages.arrived += 1
  }

  private func wakeWriters(_ messages: inout Messages) {
    if messages.stored == 0, let theirs = copyProgramsEnd() {
      messages.stored = Self.storeMessages(of: theirs)
    }
    guard messages.stored > 0 else { return }
    _ = Self.receiveMessage(at: descriptor)
    messages.stored -= 1
  }

  /// A copy of the program's end. `nil` when its known descriptors do not refer to it any more.
  private func copyProgramsEnd() -> OwnedDescriptor? {
    let (first, last) = descriptors.withLock { ($0.first, $0.last) }
    for known in [last, first] {
      if let known, let theirs = try? known.task.duplicateDescriptor(known.number),
        (try? StandInIdentity(of: theirs)) == identity
      {
        return theirs
      }
    }
    return nil
  }

  private static func receiveMessage(at socket: OwnedDescriptor) -> Bool {
    var byte: UInt8 = 0
    return recv(socket.rawValue, &byte, 1, Int32(MSG_DONTWAIT)) >= 0
  }

  private static func sendMessage(from socket: OwnedDescriptor) -> Bool {
    send(socket.rawValue, nil, 0, Int32(MSG_DONTWAIT | MSG_NOSIGNAL)) >= 0
  }
}
