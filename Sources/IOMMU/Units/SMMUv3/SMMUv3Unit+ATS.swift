// SPDX-License-Identifier: Apache-2.0

// Requests of functions with ATS (§3.9.1): translation requests, translated transactions, and
// invalidations of device TLBs (ATCs).

internal import Synchronization

extension SMMUv3Unit {
  /// The result of looking up a translation request in the caches.
  private enum ATSCacheOutcome {
    case page(Translation)
    case addressSpaceMiss
    /// The TLB does not have the page, or the stream must not use ATS.
    case pageMiss(SMMUv3AddressSpace)
  }

  /// Answers a translation request for the page at the request's address. An event is recorded only
  /// when the stream must not use ATS. A page that is not mapped or does not allow the access is a
  /// completion, not an event.
  func translatePage(_ request: DMARequest, inFlight: InFlightRequest) -> TranslationCompletion {
    while true {
      let (outcome, generation) = state.withLock { state in
        (lookUpPage(request, inFlight, in: &state), state.generation)
      }
      switch outcome {
      case .page(let page):
        return .page(page)
      case .addressSpaceMiss:
        guard case .success = fillAddressSpace(request, generation) else {
          return .fault(request.unrecordedFault)
        }
      case .pageMiss(let space):
        guard space.translationType != .abort else { return .fault(request.unrecordedFault) }
        guard space.allowsATS else {
          return .fault(request.fault(SMMUv3Event(.badTranslationRequest)))
        }
        switch fillPage(request.iova, request.access, space, generation) {
        case .success(let page): return .page(page)
        case .failure(let event):
          return event.kind.isConfigurable ? .denied : .fault(request.unrecordedFault)
        }
      }
    }
  }

  private func lookUpPage(
    _ request: DMARequest, _ inFlight: InFlightRequest, in state: inout State
  ) -> ATSCacheOutcome {
    guard let found = state.addressSpaces.find(request.addressSpaceKey) else {
      return .addressSpaceMiss
    }
    let space = found.pointee
    guard space.allowsATS else { return .pageMiss(space) }
    inFlight.use(space.inFlightKey)
    let address = space.effectiveAddress(request.iova)
    let page = state.iotlb.lookup(space.tag, address, for: request.access)
    return page.map { .page($0) } ?? .pageMiss(space)
  }

  /// Checks whether a translated transaction may pass (SMMU_CR0.ATSCHK is set).
  /// - Returns: the fault, or `nil` when the transaction may pass.
  func checkTranslated(_ request: DMARequest, at iova: IOVA) -> FaultRecord? {
    let key = request.addressSpaceKey
    let (cached, generation) = state.withLock {
      ($0.addressSpaces.find(key)?.pointee, $0.generation)
    }
    let space: SMMUv3AddressSpace
    if let cached {
      space = cached
    } else if case .success(let resolved) = resolveAddressSpace(request, generation) {
      space = resolved
    } else {
      return request.unrecordedFault
    }
    guard space.translationType != .abort else { return request.unrecordedFault }
    return space.allowsATS ? nil : request.fault(SMMUv3Event(.translatedForbidden))
  }

  /// Performs §4.5.1 CMD_ATC_INV.
  func invalidateATC(_ command: SMMUv3Command) {
    let scope = DeviceTLBScope.aligned(command.address, shift: command.pageCountShift + 12)
    let pasid = command.hasSubstream && !command.isGlobal ? command.substream : nil
    ports.invalidateDeviceTLBs(scope, pasid: pasid) { StreamID($0) == command.stream }
  }
}

extension DMARequest {
  fileprivate func fault(_ event: SMMUv3Event, isSuppressed: Bool = false) -> FaultRecord {
    FaultRecord(self, .smmuv3(event), at: iova, isSuppressed: isSuppressed)
  }

  /// The fault of a request that ends without an event.
  fileprivate var unrecordedFault: FaultRecord { fault(SMMUv3Event(.aborted), isSuppressed: true) }
}
