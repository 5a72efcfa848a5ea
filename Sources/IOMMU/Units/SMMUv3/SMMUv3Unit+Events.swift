// The event queue (§7.2, §7.4).

internal import Synchronization

/// The queue, as its consumer finds it.
struct EventRecording {
  private let capacity: Int
  private var records: [SMMUv3EventRecord] = []
  /// OVFLG: an event found the queue full and is lost.
  private(set) var hasOverflowed = false
  /// The driver's interrupt handler.
  var sink: FaultSink?

  init(capacity: Int) { self.capacity = capacity }

  mutating func append(_ record: SMMUv3EventRecord) {
    guard records.count < capacity else {
      hasOverflowed = true
      return
    }
    records.append(record)
  }

  mutating func take() -> [SMMUv3EventRecord] {
    defer {
      records.removeAll(keepingCapacity: true)
      hasOverflowed = false
    }
    return records
  }
}

extension SMMUv3Unit {
  /// Sets who is told of events; replaces the one before.
  package func setFaultSink(_ sink: FaultSink?) { events.withLock { $0.sink = sink } }

  /// Consumes the event queue, and acknowledges an overflow.
  package func takeEvents() -> [SMMUv3EventRecord] { events.withLock { $0.take() } }

  /// Records an event and raises the interrupt.
  func report(_ record: FaultRecord) {
    guard case .smmuv3(let event) = record.reason else { return }
    let sink = events.withLock { events in
      events.append(SMMUv3EventRecord(record, event))
      return events.sink
    }
    sink?(record)
  }
}
