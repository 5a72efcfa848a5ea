// SPDX-License-Identifier: Apache-2.0

// Requests of functions with ATS (DTE in the context entry): translation requests, and requests
// with translated addresses (VT-d §4).

internal import Synchronization

extension VTdUnit {
  /// Answers a translation request for the page at the request's address (VT-d §4.1.1).
  func translatePage(_ request: DMARequest, inFlight: InFlightRequest) -> TranslationCompletion {
    if request.pasid == nil, Self.interruptRange.contains(request.iova.rawValue) {
      return .denied
    }
    return TranslationCompletion(request) { segment in
      translatePages(request, inFlight: inFlight, segments: segment)
    } isDenial: { record in
      if case .vtd(let reason) = record.reason { reason.isRecoverable } else { false }
    }
  }

  /// VT-d §4.2.3 Handling of Translated Requests: the unit checks the context entry of the function
  /// only, because the address is translated already.
  func checkTranslated(_ request: DMARequest, at iova: IOVA) -> FaultRecord? {
    var request = request
    request.addressType = .translated
    let generation = state.withLock { $0.generation }
    switch contextEntry(of: request.requester, generation) {
    case .failure(let reason):
      return request.fault(reason, at: iova, isSuppressed: false)
    case .success(let context):
      let reason: VTdFaultReason
      if !context.isPresent {
        reason = .contextEntryAbsent
      } else if !context.allowsDeviceTLB {
        reason = .deviceTLBDisabled
      } else {
        return nil
      }
      return request.fault(reason, at: iova, isSuppressed: context.disablesFaults)
    }
  }
}
