// Where a unit tells its driver of faults, and the interrupt that says there is one: the fault recording
// registers of VT-d, the event queue of an SMMUv3, the event log of AMD-Vi.
//
// An entry that finds the log full is lost, as all are until the driver takes what is there: that is
// also how it clears what says so (PFO, OVFLG, EventOverflow).

internal import Synchronization

final class FaultRecordBuffer<Entry: Sendable>: Sendable {
  private struct State {
    var entries: [Entry] = []
    /// The driver's interrupt handler.
    var sink: FaultSink?
  }

  private let capacity: Int
  private let state = Mutex(State())

  init(capacity: Int) { self.capacity = capacity }

  /// Replaces the one before.
  func setSink(_ sink: FaultSink?) { state.withLock { $0.sink = sink } }

  /// Stores `entry` where there is room, and raises the interrupt.
  func append(_ entry: Entry, of record: FaultRecord) {
    let sink = state.withLock { state in
      if state.entries.count < capacity { state.entries.append(entry) }
      return state.sink
    }
    sink?(record)
  }

  /// Takes all entries, oldest first.
  func take() -> [Entry] {
    state.withLock { state in
      defer { state.entries.removeAll(keepingCapacity: true) }
      return state.entries
    }
  }
}
