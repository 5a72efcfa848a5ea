// SPDX-License-Identifier: Apache-2.0

// Stalled transactions: instead of failing, a transaction that faults waits for an answer of
// software (the stall model of SMMUv3, IHI 0070 §3.12.2). In this model the unit does not hold the
// transaction. The outcome of the request is `stalled`, and the function issues the request again
// when the port delivers the answer.

extension DMAPort {
  /// The consequence of a fault for the transaction.
  enum FaultDisposition {
    case ended(DMAOutcome)
    /// Software answered at once that the transaction is to be retried.
    case retry
  }

  /// Reports the fault, and stalls the transaction if the configuration and the device allow that.
  @inline(never)
  func stallOrTerminate(_ record: FaultRecord) -> FaultDisposition {
    guard canStall, case .smmuv3(let event) = record.reason, event.stalls,
      let group = deviceTLB.beginGroup(pasid: record.pasid)
    else {
      if !record.isSuppressed { unit.report(record) }
      return .ended(.fault(record))
    }
    unit.report(record.stalled(event, tag: UInt16(truncatingIfNeeded: group)))
    switch deviceTLB.endSending(group) {
    case nil: return .ended(.stalled(group: group))
    case .success: return .retry
    case .invalid, .failure: return .ended(.fault(record))
    }
  }
}

extension FaultRecord {
  /// The record of a stalled transaction. §5.5: its event is never suppressed.
  fileprivate func stalled(_ event: SMMUv3Event, tag: UInt16) -> FaultRecord {
    var event = event
    event.stallTag = tag
    return FaultRecord(
      requester: requester, pasid: pasid, iova: iova, access: access, reason: .smmuv3(event),
      isSuppressed: false)
  }
}
