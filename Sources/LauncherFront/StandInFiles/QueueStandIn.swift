// A queue's descriptor in the program: one end of a SEQPACKET socket pair. The other end is ours.
//
//   readable      an empty message waits in the program's end: poll, select and epoll see it natively
//   writable      natively true; for a queue that is never writable the program's end is filled up
//   last close    our end hangs up
//   read, write   trapped by number (`firstQueueDescriptor`) and answered by the queue
//
// A program that moves the descriptor below that number reads the socket instead: an empty message
// or, after a clock tick, EAGAIN; never a byte that the queue did not say, and never a long wait.

internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

final class QueueStandIn: Sendable {
  /// Our end.
  let descriptor: OwnedDescriptor
  /// Messages may wait in the program's end. Orders marking against clearing.
  private let isMarked = Mutex(false)
  /// The program's end is known by.
  let identity: StandInIdentity
  /// Where the program's end was seen last.
  private let place = Mutex<(task: HostTask, number: Int32)?>(nil)

  /// - Returns: the carrier and the program's end, to be given away.
  static func make(_ readiness: Readiness) throws(Errno) -> (QueueStandIn, OwnedDescriptor) {
    let (descriptor, theirs) = try UnixSocket.pair()
    let carrier = QueueStandIn(descriptor, identity: try StandInIdentity(of: theirs))
    var tick = timeval(tv_sec: 0, tv_usec: 1)
    let size = socklen_t(MemoryLayout<timeval>.size)
    setsockopt(theirs.rawValue, SOL_SOCKET, SO_RCVTIMEO, &tick, size)
    setsockopt(theirs.rawValue, SOL_SOCKET, SO_SNDTIMEO, &tick, size)
    if !readiness.contains(.writable) { fill(theirs) }
    return (carrier, theirs)
  }

  private init(_ descriptor: OwnedDescriptor, identity: StandInIdentity) {
    self.descriptor = descriptor
    self.identity = identity
  }

  /// Sends what nobody will receive until the socket has no room and so is never writable.
  private static func fill(_ socket: OwnedDescriptor) {
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

  /// What the queue holds has changed. When it may have become readable: one more message, which an
  /// edge-triggered epoll sees even when one waits already. A full socket has enough of them. When it
  /// was emptied by somebody else than its reader: none.
  func wake(_ file: any OpenFile) {
    let place = place.withLock { $0 }
    isMarked.withLock { isMarked in
      if file.readiness().contains(.readable) {
        mark(&isMarked)
      } else if isMarked, let place {
        clear(&isMarked, place.number, of: place.task)
      }
    }
  }

  /// `number` of `task` is the program's end.
  func note(_ number: Int32, of task: HostTask) {
    place.withLock { $0 = (task, number) }
  }

  /// The queue has been read: what poll shows is set to what it holds. `descriptor` of `task` is
  /// the program's end.
  func settle(_ file: any OpenFile, descriptor number: Int32, of task: HostTask) {
    note(number, of: task)
    isMarked.withLock { isMarked in
      guard isMarked, !file.readiness().contains(.readable) else { return }
      clear(&isMarked, number, of: task)
    }
  }

  /// Takes the messages back. They stay, and a reader finds the queue empty, when the program has
  /// moved its end meanwhile.
  private func clear(_ isMarked: inout Bool, _ number: Int32, of task: HostTask) {
    guard let theirs = try? task.duplicateDescriptor(number),
      (try? StandInIdentity(of: theirs)) == identity
    else { return }
    var byte: UInt8 = 0
    while recv(theirs.rawValue, &byte, 1, Int32(MSG_DONTWAIT)) >= 0 {}
    isMarked = false
  }

  private func mark(_ isMarked: inout Bool) {
    isMarked = true
    send(
      descriptor.rawValue, nil, 0, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
  }
}
