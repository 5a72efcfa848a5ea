// SPDX-License-Identifier: Apache-2.0

internal import DequeModule

/// A queue of records, oldest first, with a limited capacity. When the log is full it keeps the old
/// records, and the producer counts the new one as lost.
package struct RecordLog: QueueContents {
  private let capacity: Int
  private var records: Deque<[UInt8]> = []

  package init(capacity: Int) {
    self.capacity = capacity
  }

  /// - Returns: `false` when the log is full; it is unchanged then.
  package mutating func append(_ record: [UInt8]) -> Bool {
    guard records.count < capacity else { return false }
    records.append(record)
    return true
  }

  package var isEmpty: Bool { records.isEmpty }
  package mutating func dequeue() -> [UInt8]? { records.popFirst() }
  package func bytes(of record: [UInt8]) -> [UInt8] { record }
  package mutating func requeue(_ record: [UInt8]) { records.prepend(record) }
}
