// SPDX-License-Identifier: Apache-2.0

// The event queue (§7.2, §7.4) and the end of stalled transactions (§3.12.2).

extension SMMUv3Unit {
  /// Sets the handler of the event queue interrupt; replaces the previous one.
  package func setFaultSink(_ sink: FaultSink?) { events.setSink(sink) }

  /// Consumes all records of the event queue and acknowledges an overflow.
  package func consumeEvents() -> [SMMUv3EventRecord] { events.consume() }

  /// Records an event and raises the interrupt.
  func report(_ record: FaultRecord) {
    guard case .smmuv3(let event) = record.reason else { return }
    events.append(SMMUv3EventRecord(record, event), of: record)
  }

  /// Ends stalled transactions of a stream.
  /// - Parameter tag: STAG for CMD_RESUME; `nil` for CMD_STALL_TERM, which ends all of them.
  func answerStalls(of stream: StreamID, tag: UInt16?, _ response: PageResponse) {
    ports.forEach(where: { StreamID($0) == stream }) { _, deviceTLB in
      if let tag {
        deviceTLB.answer(group: UInt32(tag), response)
      } else {
        deviceTLB.answerAll(response)
      }
    }
  }
}
