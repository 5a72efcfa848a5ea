// A transaction that faults can wait for an answer instead of failing (SMMUv3: the stall model, IHI 0070
// §3.12.2). It is then the port that holds it: the function is told that the request is under way, and
// the answer makes it issue the request again, as the unit would have.

extension DMAPort {
  /// What becomes of a transaction that met a fault.
  enum Settlement {
    case over(DMAOutcome)
    /// It was answered at once: what was missing is there.
    case again
  }

  /// Records the fault, and stalls the transaction where configuration and the device let it.
  @inline(never)
  func settle(_ record: FaultRecord) -> Settlement {
    guard canStall, case .smmuv3(let event) = record.reason, event.stalls,
      let group = deviceTLB.beginGroup(pasid: record.pasid)
    else {
      if !record.isSuppressed { unit.report(record) }
      return .over(.fault(record))
    }
    unit.report(record.stalled(event, tag: UInt16(truncatingIfNeeded: group)))
    switch deviceTLB.endSending(group) {
    case nil: return .over(.stalled(group: group))
    case .success: return .again
    case .invalid, .failure: return .over(.fault(record))
    }
  }
}

extension FaultRecord {
  /// §5.5: an event that tells of a stall is never suppressed.
  fileprivate func stalled(_ event: SMMUv3Event, tag: UInt16) -> FaultRecord {
    var event = event
    event.stallTag = tag
    return FaultRecord(
      requester: requester, pasid: pasid, iova: iova, access: access, reason: .smmuv3(event),
      isSuppressed: false)
  }
}
