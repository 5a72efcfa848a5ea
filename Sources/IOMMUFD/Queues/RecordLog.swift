internal import DequeModule

/// Records, oldest first, up to a bound: what does not fit is the producer's to count as lost.
package struct RecordLog: QueueContents {
  private let capacity: Int
  private var records: Deque<[UInt8]> = []

  package init(capacity: Int) {
    self.capacity = capacity
  }

  /// - Returns: false when the log is full; the record is then not in it.
  package mutating func append(_ record: [UInt8]) -> Bool {
    guard records.count < capacity else { return false }
    records.append(record)
    return true
  }

  package var isEmpty: Bool { records.isEmpty }
  package mutating func takeFirst() -> [UInt8]? { records.popFirst() }
  package func bytes(of record: [UInt8]) -> [UInt8] { record }
  package mutating func putBack(_ record: [UInt8]) { records.prepend(record) }
}
