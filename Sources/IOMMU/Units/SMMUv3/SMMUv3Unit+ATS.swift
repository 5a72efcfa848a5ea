// Functions that translate for themselves (§3.9.1): translation requests, translated transactions, and
// invalidations of what the functions keep.

internal import Synchronization

extension SMMUv3Unit {
  private enum PageLookup {
    case page(Translation)
    case unknownContext
    case miss(StreamContext)
  }

  /// The answer to a translation request for the page at the request's address. Only that it is
  /// forbidden is recorded; that a page is not there, or may not be accessed, is an answer.
  func translatePage(_ request: DMARequest, gate: PortGate) -> PageOutcome {
    while true {
      let (lookup, generation) = state.withLock { state in
        (lookUpPage(request, gate, in: &state), state.generation)
      }
      switch lookup {
      case .page(let page):
        return .page(page)
      case .unknownContext:
        guard case .success = findContext(request, generation) else {
          return .fault(request.silentFault)
        }
      case .miss(let context):
        guard context.path != .abort else { return .fault(request.silentFault) }
        guard context.allowsATS else {
          return .fault(request.fault(SMMUv3Event(.badTranslationRequest)))
        }
        switch fill(request.iova.rawValue, request.access, context, generation) {
        case .success(let page): return .page(page)
        case .failure(let event):
          return event.kind.isConfigurable ? .denied : .fault(request.silentFault)
        }
      }
    }
  }

  private func lookUpPage(
    _ request: DMARequest, _ gate: PortGate, in state: inout State
  ) -> PageLookup {
    guard let found = state.contexts.find(request.spaceKey) else { return .unknownContext }
    let context = found.pointee
    guard context.allowsATS else { return .miss(context) }
    gate.use(space: context.gateSpace)
    let address = context.effective(request.iova.rawValue)
    let page = state.iotlb.lookup(context.tag, address, for: request.access)
    return page.map { .page($0) } ?? .miss(context)
  }

  /// Whether a translated transaction may pass; nil: it may (SMMU_CR0.ATSCHK is set).
  func refuseTranslated(_ request: DMARequest, at iova: UInt64) -> FaultRecord? {
    let key = request.spaceKey
    let (cached, generation) = state.withLock {
      ($0.contexts.find(key)?.pointee, $0.generation)
    }
    let context: StreamContext
    if let cached {
      context = cached
    } else if case .success(let found) = readContext(request, generation) {
      context = found
    } else {
      return request.silentFault
    }
    guard context.path != .abort else { return request.silentFault }
    return context.allowsATS ? nil : request.fault(SMMUv3Event(.translatedForbidden))
  }

  /// §4.5.1 CMD_ATC_INV
  func invalidateATC(_ command: SMMUv3Command) {
    let scope = DeviceTLBScope.aligned(command.address, shift: command.pageCountShift + 12)
    let pasid = command.hasSubstream && !command.isGlobal ? PASID(rawValue: command.substream) : nil
    ports.invalidateDeviceTLBs(scope, pasid: pasid) { UInt32($0.rawValue) == command.stream }
  }
}

extension DMARequest {
  fileprivate func fault(_ event: SMMUv3Event, isSuppressed: Bool = false) -> FaultRecord {
    FaultRecord(
      requester: requester, pasid: pasid, iova: iova, access: access, reason: .smmuv3(event),
      isSuppressed: isSuppressed, addressType: addressType)
  }

  /// The end of a request that nothing is told of.
  fileprivate var silentFault: FaultRecord { fault(SMMUv3Event(.aborted), isSuppressed: true) }
}
