// SPDX-License-Identifier: Apache-2.0

// Requests of functions with ATS (I in the device table entry, §2.2.2.1): translation requests,
// requests with translated addresses, and invalidations of device TLBs.

internal import Synchronization

extension AMDViUnit {
  /// Answers a translation request for the page at the request's address. A condition that would be
  /// an IO_PAGE_FAULT for a memory request is a completion without permissions and no event
  /// (§2.1.3.2 I/O Page Faults).
  func translatePage(_ request: DMARequest, inFlight: InFlightRequest) -> TranslationCompletion {
    if request.pasid == nil, isSpecial(request.iova, request.iova) { return .denied }
    return TranslationCompletion(request) { segment in
      translatePages(request, inFlight: inFlight, segments: segment)
    } isDenial: { record in
      if case .amdvi(let event) = record.reason { event.kind == .pageFault } else { false }
    }
  }

  /// Checks whether a request with a translated address may pass. The unit checks the device table
  /// entry of the function only, because the address is translated already.
  /// - Returns: the fault, or `nil` when the request may pass.
  func checkTranslated(_ request: DMARequest, at iova: IOVA) -> FaultRecord? {
    var request = request
    request.addressType = .translated
    let generation = state.withLock { $0.generation }
    switch deviceTableEntry(of: request.requester, at: iova, generation) {
    case .disabled:
      return nil
    case .failure(let event):
      return fault(request, event, at: iova, FaultSuppression())
    case .success(let entry):
      guard !(entry.isValid && entry.allowsDeviceTLB) else { return nil }
      return fault(
        request, .invalidRequest(.translated, at: iova.rawValue), at: iova, FaultSuppression(entry))
    }
  }

  /// Performs §2.4.4 INVALIDATE_IOTLB_PAGES. With GIoV, requests without PASID have PASID 0, so an
  /// invalidation of PASID 0 includes them; Linux relies on that (amd: domain_flush_pages_v2()).
  func invalidateDeviceTLB(_ command: AMDViCommand) {
    let generation = state.withLock { $0.generation }
    var pasid = command.deviceTLBPASID
    if pasid?.rawValue == 0,
      case .success(let entry) = deviceTableEntry(
        of: command.device, at: IOVA(0), generation),
      entry.usesGuestTableWithoutPASID
    {
      pasid = nil
    }
    let range = command.range
    let scope = DeviceTLBScope.aligned(range.start, shift: range.shift)
    ports.invalidateDeviceTLBs(scope, pasid: pasid) { $0 == command.device }
  }
}
