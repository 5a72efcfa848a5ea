// SPDX-License-Identifier: Apache-2.0

// The event log (§2.5), and the suppression of events by a device table entry.

internal import Synchronization

extension AMDViUnit {
  /// The IO_PAGE_FAULT events that a device table entry suppresses.
  struct FaultSuppression {
    /// SA: all events.
    var all = false
    /// SE: the events after the first.
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

  /// Returns the fault record of a request.
  /// - Parameter address: the first address without a translation.
  @inline(never)
  func fault(
    _ request: DMARequest, _ event: AMDViEvent, at address: IOVA, _ suppression: FaultSuppression
  ) -> FaultRecord {
    FaultRecord(
      request, .amdvi(event), at: address,
      isSuppressed: event.kind == .pageFault && suppresses(suppression, of: request.requester))
  }

  /// Returns whether the next IO_PAGE_FAULT of the device is suppressed. If it is not, and SE is
  /// set, later ones are.
  private func suppresses(_ suppression: FaultSuppression, of requester: RequesterID) -> Bool {
    if suppression.all { return true }
    guard suppression.repeated else { return false }
    return state.withLock { !$0.devicesWithRecordedFault.insert(requester).inserted }
  }

  /// Sets the handler of the event log interrupt; replaces the previous one.
  package func setFaultSink(_ sink: FaultSink?) { events.setSink(sink) }

  /// Consumes all entries of the event log, and restarts the log after an overflow.
  package func consumeEvents() -> [AMDViEventEntry] { events.consume() }

  /// Records an event and raises the interrupt.
  func report(_ record: FaultRecord) {
    guard case .amdvi(let event) = record.reason else { return }
    events.append(AMDViEventEntry(record, event), of: record)
  }
}

extension AMDViAddressSpace {
  var faultSuppression: AMDViUnit.FaultSuppression {
    .init(all: suppressesFaults, repeated: suppressesRepeatedFaults)
  }
}
