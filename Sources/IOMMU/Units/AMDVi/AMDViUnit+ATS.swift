// Functions that translate for themselves (I of their entry, §2.2.2.1): translation requests, requests with
// translated addresses, and invalidations of what the functions keep.

internal import Synchronization

extension AMDViUnit {
  /// The answer to a translation request for the page at the request's address. What would be an
  /// IO_PAGE_FAULT is an answer without rights, and no event (§2.1.3.2 I/O Page Faults).
  func translatePage(_ request: DMARequest, gate: PortGate) -> PageOutcome {
    let address = request.iova.rawValue
    if request.pasid == nil, isSpecial(address, address) { return .denied }
    return PageOutcome(request) { segment in
      translatePages(request, gate: gate, segments: segment)
    } isDenial: { record in
      if case .amdvi(let event) = record.reason { event.kind == .pageFault } else { false }
    }
  }

  /// Only the function is looked at, for its translation was.
  func refuseTranslated(_ request: DMARequest, at iova: UInt64) -> FaultRecord? {
    var request = request
    request.addressType = .translated
    let generation = state.withLock { $0.generation }
    switch findEntry(of: request.requester, at: iova, generation) {
    case .disabled:
      return nil
    case .failure(let event):
      return fault(request, event, at: iova, Suppression())
    case .success(let entry):
      guard !(entry.isValid && entry.allowsDeviceTLB) else { return nil }
      return fault(request, .invalidRequest(.translated, at: iova), at: iova, Suppression(entry))
    }
  }

  /// §2.4.4. With GIoV, PASID 0 is what requests without one are, so they are meant: amd flushes them so
  /// (domain_flush_pages_v2()).
  func invalidateDeviceTLB(_ command: AMDViCommand) {
    let generation = state.withLock { $0.generation }
    var pasid = command.deviceTLBPASID
    if pasid?.rawValue == 0,
      case .success(let entry) = findEntry(of: command.device, at: 0, generation),
      entry.usesGuestTableWithoutPASID
    {
      pasid = nil
    }
    let range = command.range
    let scope = DeviceTLBScope.aligned(range.start, shift: range.shift)
    ports.invalidateDeviceTLBs(scope, pasid: pasid) { $0 == command.device }
  }
}
