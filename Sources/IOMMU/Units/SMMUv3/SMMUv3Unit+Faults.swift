// The event queue (§7.2, §7.4).

extension SMMUv3Unit {
  /// Sets who is told of events; replaces the one before.
  package func setFaultSink(_ sink: FaultSink?) { events.setSink(sink) }

  /// Consumes the event queue, and acknowledges an overflow.
  package func takeEvents() -> [SMMUv3EventRecord] { events.take() }

  /// Records an event and raises the interrupt.
  func report(_ record: FaultRecord) {
    guard case .smmuv3(let event) = record.reason else { return }
    events.append(SMMUv3EventRecord(record, event), of: record)
  }

  /// CMD_RESUME, and CMD_STALL_TERM when there is no tag.
  func answerStalls(of stream: UInt32, tag: UInt16?, _ response: PageResponse) {
    ports.forEach(where: { UInt32($0.rawValue) == stream }) { _, deviceTLB in
      if let tag {
        deviceTLB.answer(group: UInt32(tag), response)
      } else {
        deviceTLB.answerAll(response)
      }
    }
  }
}
