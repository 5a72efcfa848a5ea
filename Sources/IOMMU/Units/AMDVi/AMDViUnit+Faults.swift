// The event log (§2.5), and which events a device table entry keeps out of it.

internal import Synchronization

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
  package func setFaultSink(_ sink: FaultSink?) { events.setSink(sink) }

  /// Consumes the event log, and starts it again after an overflow.
  package func takeEvents() -> [AMDViEventEntry] { events.take() }

  /// Records an event and raises the interrupt.
  func report(_ record: FaultRecord) {
    guard case .amdvi(let event) = record.reason else { return }
    events.append(AMDViEventEntry(record, event), of: record)
  }
}

extension AMDViAddressSpace {
  var suppression: AMDViUnit.Suppression {
    .init(all: suppressesFaults, repeated: suppressesRepeatedFaults)
  }
}
