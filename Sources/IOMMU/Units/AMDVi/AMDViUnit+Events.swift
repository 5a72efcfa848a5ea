// The event log (§2.5), and which events a device table entry keeps out of it.

internal import Synchronization

/// The log, as its consumer finds it.
struct AMDViEventLog {
  private let capacity: Int
  private var entries: [AMDViEventEntry] = []
  /// EventOverflow: an event found the log full and is lost.
  private(set) var hasOverflowed = false
  /// The driver's interrupt handler.
  var sink: FaultSink?

  init(capacity: Int) { self.capacity = capacity }

  mutating func append(_ entry: AMDViEventEntry) {
    // A ring of which one entry stays free. After an overflow the driver has to start it again.
    guard !hasOverflowed, entries.count < capacity - 1 else {
      hasOverflowed = true
      return
    }
    entries.append(entry)
  }

  mutating func take() -> [AMDViEventEntry] {
    defer {
      entries.removeAll(keepingCapacity: true)
      hasOverflowed = false
    }
    return entries
  }
}

extension AMDViUnit {
  /// What a device table entry says of page faults.
  struct Suppression {
    /// SA
    var all = false
    /// SE
    var repeated = false

    init() {}

    init(_ entry: DeviceTableEntry) {
      all = entry.suppressesFaults
      repeated = entry.suppressesRepeatedFaults
    }

    init(all: Bool, repeated: Bool) {
      self.all = all
      self.repeated = repeated
    }
  }

  /// - Parameter address: the first that has no translation.
  @inline(never)
  func fault(
    _ request: DMARequest, _ event: AMDViEvent, at address: UInt64, _ suppression: Suppression
  ) -> FaultRecord {
    FaultRecord(
      requester: request.requester, pasid: request.pasid, iova: IOVA(address),
      access: request.access, reason: .amdvi(event),
      isSuppressed: event.kind == .pageFault && suppresses(suppression, of: request.requester),
      addressType: request.addressType)
  }

  private func suppresses(_ suppression: Suppression, of device: RequesterID) -> Bool {
    if suppression.all { return true }
    guard suppression.repeated else { return false }
    return state.withLock { !$0.silenced.insert(device).inserted }
  }

  /// Sets who is told of events; replaces the one before.
  package func setFaultSink(_ sink: FaultSink?) { events.withLock { $0.sink = sink } }

  /// Consumes the event log, and starts it again after an overflow.
  package func takeEvents() -> [AMDViEventEntry] { events.withLock { $0.take() } }

  /// Records an event and raises the interrupt.
  func report(_ record: FaultRecord) {
    guard case .amdvi(let event) = record.reason else { return }
    let sink = events.withLock { events in
      events.append(AMDViEventEntry(record, event))
      return events.sink
    }
    sink?(record)
  }
}

extension AMDViAddressSpace {
  var suppression: AMDViUnit.Suppression {
    .init(all: suppressesFaults, repeated: suppressesRepeatedFaults)
  }
}
