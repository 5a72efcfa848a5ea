// SPDX-License-Identifier: Apache-2.0

// Queues that a client reads from a descriptor. `EventQueue` is the queue: producers, readers and
// the object of the queue share it. `QueueContents` has the rules of one kind of queue, `QueueFile`
// is the descriptor.

internal import Synchronization
package import SystemPackage

/// The contents of one kind of queue. A *unit* is what is read whole or not at all: one record or a
/// group of records.
package protocol QueueContents: Sendable {
  associatedtype Unit: Sendable

  var isEmpty: Bool { get }
  /// Removes the oldest unit, for a reader.
  mutating func dequeue() -> Unit?
  /// The bytes that a reader gets for `unit`.
  func bytes(of unit: Unit) -> [UInt8]
  /// Puts a dequeued unit back as the oldest, because its bytes could not be stored for the reader.
  mutating func requeue(_ unit: Unit)
  /// Called when the bytes of a dequeued unit have been stored for the reader.
  mutating func confirm(_ unit: Unit)

  /// Accepts a record that a client wrote to the descriptor. The default: `.invalidArgument`.
  /// - Returns: what to do next, without the queue's lock: a device that gets a response may
  ///   continue at once and report its next event.
  mutating func accept(_ record: [UInt8]) throws(Errno) -> (@Sendable () -> Void)?
}

extension QueueContents {
  package mutating func confirm(_ unit: Unit) {}
  package mutating func accept(_ record: [UInt8]) throws(Errno) -> (@Sendable () -> Void)? {
    throw .invalidArgument
  }
}

/// Contents, and the observer that is called when the readiness of the descriptor changes. A
/// producer never waits for readers. The lock is a leaf.
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

  /// Calls the observer: the queue became readable, or empty. The caller must not hold a lock that
  /// the front end might wait for.
  package func notify() {
    state.withLock { $0.observer }?()
  }
}
