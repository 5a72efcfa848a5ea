// What waits to be read from a descriptor: the state that producers, readers and the object of a queue
// share. The descriptor itself is ``QueueFile``.

internal import Synchronization
package import SystemPackage

/// The rules of one kind of queue: what its units are, and what becomes of them. A *unit* is read
/// whole or not at all: a record, or a group of them.
package protocol QueueContents: Sendable {
  associatedtype Unit: Sendable

  var isEmpty: Bool { get }
  /// Takes the oldest unit for a reader.
  mutating func takeFirst() -> Unit?
  /// What the reader gets.
  func bytes(of unit: Unit) -> [UInt8]
  /// The unit that was taken could not be stored: it is the oldest again.
  mutating func putBack(_ unit: Unit)
  /// The unit that was taken has been stored.
  mutating func confirm(_ unit: Unit)

  /// A record that was written to the descriptor. Without this, nothing can be written.
  /// - Returns: what is to be done because of it, without the queue's lock: a device that is answered
  ///   may go on at once and have the next thing to say.
  mutating func accept(_ record: [UInt8]) throws(Errno) -> (@Sendable () -> Void)?
}

extension QueueContents {
  package mutating func confirm(_ unit: Unit) {}
  package mutating func accept(_ record: [UInt8]) throws(Errno) -> (@Sendable () -> Void)? {
    throw .invalidArgument
  }
}

/// Contents, and who is told when there is something to read. The side that fills a queue never
/// waits for readers; its lock is a leaf.
package final class EventQueue<Contents: QueueContents>: Sendable {
  private struct State {
    var contents: Contents
    var observer: (@Sendable () -> Void)?
  }

  private let state: Mutex<State>

  package init(_ contents: Contents) {
    state = Mutex(State(contents: contents))
  }

  package func withContents<Result: Sendable, Failure: Error>(
    _ body: (inout Contents) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try state.withLock { state throws(Failure) in try body(&state.contents) }
  }

  package func setObserver(_ observer: (@Sendable () -> Void)?) {
    state.withLock { $0.observer = observer }
  }

  /// Tells the front end that there is something to read, or not any more. Called without locks that
  /// the front end might wait for.
  package func wake() {
    state.withLock { $0.observer }?()
  }
}
