// Functions that translate for themselves (DTE of their context entry): translation requests and requests with
// translated addresses (VT-d §4).

internal import Synchronization

extension VTdUnit {
  /// A translation request for the page at the request's address (VT-d §4.1.1).
  func translatePage(_ request: DMARequest, gate: PortGate) -> PageOutcome {
    if request.pasid == nil, Self.interruptRange.contains(request.iova.rawValue) {
      return .denied
    }
    return PageOutcome(request) { segment in
      translatePages(request, gate: gate, segments: segment)
    } isDenial: { record in
      if case .vtd(let reason) = record.reason { reason.isRecoverable } else { false }
    }
  }

  /// VT-d §4.2.3 Handling of Translated Requests: only the function is looked at, for its translation
  /// was.
  func refuseTranslated(_ request: DMARequest, at iova: UInt64) -> FaultRecord? {
    var request = request
    request.addressType = .translated
    let generation = state.withLock { $0.generation }
    switch findContext(request.requester, generation) {
    case .failure(let reason):
      return request.fault(reason, at: iova, suppressed: false)
    case .success(let context):
      let reason: VTdFaultReason
      if !context.isPresent {
        reason = .contextEntryAbsent
      } else if !context.allowsDeviceTLB {
        reason = .deviceTLBDisabled
      } else {
        return nil
      }
      return request.fault(reason, at: iova, suppressed: context.disablesFaults)
    }
  }
}
