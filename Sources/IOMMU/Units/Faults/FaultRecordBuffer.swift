// SPDX-License-Identifier: Apache-2.0

// The buffer in which a unit records faults for its driver, with the interrupt that announces a
// record: the fault recording registers of VT-d, the event queue of an SMMUv3, the event log of
// AMD-Vi.
//
// A record that finds the buffer full is lost. Records are lost until the driver consumes the
// buffer, which also clears the overflow flag (PFO, OVFLG, EventOverflow).

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

  /// Sets the driver's interrupt handler; replaces the previous one.
  func setSink(_ sink: FaultSink?) { state.withLock { $0.sink = sink } }

  /// Stores `entry` if the buffer has room, and raises the interrupt in either case.
  func append(_ entry: Entry, of record: FaultRecord) {
    let sink = state.withLock { state in
      if state.entries.count < capacity { state.entries.append(entry) }
      return state.sink
    }
    sink?(record)
  }

  /// Removes all entries and returns them, oldest first.
  func consume() -> [Entry] {
    state.withLock { state in
      defer { state.entries.removeAll(keepingCapacity: true) }
      return state.entries
    }
  }
}
