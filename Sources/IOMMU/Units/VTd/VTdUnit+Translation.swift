// A request becomes physical addresses: VT-d §3.4.3 (scalable-mode tables).
//
// The everyday request finds all its pages in the IOTLB under one acquisition of the unit's lock. At
// the first page that is not there the lock is dropped, the page walked, and the rest tried again.

internal import Synchronization

extension VTdUnit {
  /// VT-d §3.15: requests without PASID to this range are interrupts, never memory.
  static let interruptRange: ClosedRange<UInt64> = 0xfee0_0000...0xfeef_ffff

  /// Where a request stands while its pages are looked up.
  private struct Progress {
    var pages: RequestProgress
    /// Of the translations that the segments are from.
    var tag = IOTLBTag(domain: DomainID(rawValue: 0))
    /// Set when the look-up stops: the state of the caches it saw.
    var generation: UInt64 = 0
    var space: VTdAddressSpace?
    /// Where in the first stage the walk can begin; nil: at the top.
    var step: PagingStructureCache.CachedTable?

    init(_ pages: RequestProgress) { self.pages = pages }
  }

  private enum Lookup {
    case complete
    /// The page where the request stands is to be walked.
    case miss
    case unknownSpace
    /// The space does not translate that page, or not for such requests.
    case refused(VTdFaultReason)
  }

  /// The request of everyday: within one page, and the IOTLB has it. Nil: anything else.
  @inline(never)
  func find(_ request: DMARequest, gate: PortGate) -> PhysicalAddress? {
    guard let last = request.lastIOVAInPage, !isInterrupt(request, last.rawValue) else {
      return nil
    }
    return state.withLock { hit(request, gate: gate, in: &$0) }
  }

  @inline(__always)
  private func isInterrupt(_ request: DMARequest, _ last: UInt64) -> Bool {
    request.pasid == nil && request.iova.rawValue <= Self.interruptRange.upperBound
      && last >= Self.interruptRange.lowerBound
  }

  /// Translates all of `request`, storing the stretches of memory it is for.
  /// - Parameter segments: room for one segment for each page.
  func translate(
    _ request: DMARequest, gate: PortGate, segments: UnsafeMutableBufferPointer<DMASegment>
  ) -> TranslationOutcome {
    // Past the end of the address space there is nothing.
    guard let last = request.lastIOVA, !isInterrupt(request, last.rawValue) else {
      return .unclaimed
    }
    return translatePages(request, gate: gate, segments: segments)
  }

  @inline(__always)
  private func hit(
    _ request: DMARequest, gate: PortGate, in state: inout State
  ) -> PhysicalAddress? {
    guard let space = state.spaces.find(request.spaceKey),
      request.iova.rawValue <= space.pointee.lastIOVA
    else { return nil }
    let domain = space.pointee.domain
    gate.use(domain)
    let iova = request.iova.rawValue
    return state.iotlb.lookup(space.pointee.tag, iova, for: request.access)?.address(of: iova)
  }

  @inline(never)
  func translatePages(
    _ request: DMARequest, gate: PortGate,
    segments: UnsafeMutableBufferPointer<DMASegment>
  ) -> TranslationOutcome {
    var progress = Progress(RequestProgress(request, into: segments))
    while true {
      let lookup = state.withLock { state in
        lookUp(request, &progress, gate: gate, in: &state)
      }
      switch lookup {
      case .complete:
        return progress.pages.mapped
      case .unknownSpace:
        if let fault = fillSpace(request, progress) { return .fault(fault) }
      case .refused(let reason):
        return .fault(
          request.fault(
            reason, at: progress.pages.iova, suppressed: progress.space?.suppressesFaults ?? false))
      case .miss:
        guard let space = progress.space else { return .unclaimed }
        switch fill(progress, request, space) {
        case .failure(let reason):
          return .fault(
            request.fault(reason, at: progress.pages.iova, suppressed: space.suppressesFaults))
        case .success(let page):
          progress.pages.append(page)
          if progress.pages.left == 0 { return progress.pages.mapped }
        }
      }
    }
  }

  @inline(__always)
  private func lookUp(
    _ request: DMARequest, _ progress: inout Progress, gate: PortGate, in state: inout State
  ) -> Lookup {
    guard let found = state.spaces.find(request.spaceKey) else {
      progress.generation = state.generation
      return .unknownSpace
    }
    let domain = found.pointee.domain
    gate.use(domain)
    let tag = found.pointee.tag
    let lastIOVA = found.pointee.lastIOVA
    let isPassThrough = found.pointee.translation == .passThrough
    let access = found.pointee.access(request.access)
    if progress.pages.segments > 0, progress.tag != tag {
      // Another table was attached meanwhile: the request goes through it as a whole.
      progress.pages.restart(request)
    }
    progress.tag = tag
    if let reason = found.pointee.refusal(request) {
      progress.space = found.pointee
      return .refused(reason)
    }
    while progress.pages.left > 0 {
      guard progress.pages.iova <= lastIOVA else {
        progress.space = found.pointee
        return .refused(found.pointee.beyondReason)
      }
      if isPassThrough {
        // One page at a time; the end was just checked.
        progress.pages.append(.itself(progress.pages.iova))
        continue
      }
      guard let hit = state.iotlb.lookup(tag, progress.pages.iova, for: access) else {
        progress.space = found.pointee
        progress.generation = state.generation
        if found.pointee.hasFirstStage {
          progress.step = state.pagingStructures.find(tag, progress.pages.iova)
        }
        return .miss
      }
      progress.pages.append(hit)
    }
    return .complete
  }

  /// Walks the page where the request stands, and caches what was found unless an invalidation came
  /// in between.
  @inline(__always)
  private func fill(
    _ progress: Progress, _ request: DMARequest, _ space: VTdAddressSpace
  ) -> Result<Translation, VTdFaultReason> {
    if space.hasFirstStage { return fillFirstStage(progress, request, space) }
    let result = walkSecondStage(progress.pages.iova, space.access(request.access), space)
    if case .success(let page) = result {
      let (iova, generation) = (progress.pages.iova, progress.generation)
      state.withLock { state in
        guard state.generation == generation else { return }
        state.iotlb.insert(space.tag, iova, page)
      }
    }
    return result
  }

  @inline(never)
  private func fillFirstStage(
    _ progress: Progress, _ request: DMARequest, _ space: VTdAddressSpace
  ) -> Result<Translation, VTdFaultReason> {
    var root = space.firstStage
    if let step = progress.step { root.begin(at: step) }
    var steps = WalkedEntries()
    let result = walkFirstStage(progress.pages.iova, request.access, space, from: root, &steps)
    // No fault comes of what is cached: what is more than it was needs no invalidation (VT-d §6.5.3.3).
    if case .failure = result, progress.step != nil {
      var progress = progress
      progress.step = nil
      return fillFirstStage(progress, request, space)
    }
    if case .success(let page) = result {
      state.withLock { state in
        guard state.generation == progress.generation else { return }
        state.iotlb.insert(space.tag, progress.pages.iova, page)
        steps.forEachTable(of: VTdFirstStage.self, from: root) { step in
          state.pagingStructures.insert(
            space.tag, progress.pages.iova, shift: VTdFirstStage.tableShift(step.level), step)
        }
      }
    }
    return result
  }

  /// Reads the configuration tables for a request and caches what they say.
  private func fillSpace(
    _ request: DMARequest, _ progress: Progress
  ) -> FaultRecord? {
    switch findSpace(request, progress.generation) {
    case .failure(let reason, let suppressed):
      return request.fault(
        reason, at: progress.pages.iova, suppressed: suppressed && reason.isQualified)
    case .success(let space):
      state.withLock { state in
        // After an invalidation the tables are read again.
        if state.generation == progress.generation { state.spaces.insert(request.spaceKey, space) }
      }
      return nil
    }
  }
}

extension VTdAddressSpace {
  /// Tables without a first stage know neither privilege nor execution.
  @inline(__always)
  fileprivate func access(_ access: Permissions) -> Permissions {
    if hasFirstStage { return access }
    return access.isDisjoint(with: .anyWrite) ? .read : .write
  }

  /// Why a request is refused before any table is looked at.
  @inline(__always)
  fileprivate func refusal(_ request: DMARequest) -> VTdFaultReason? {
    if request.addressType != .untranslated, !allowsDeviceTLB { return .deviceTLBDisabled }
    guard hasFirstStage else { return nil }
    if !request.access.isDisjoint(with: [.execute, .privilegedExecute]) {
      return .executeRequestDisabled
    }
    if !allowsPrivilege, !request.access.isDisjoint(with: [.privilegedRead, .privilegedWrite]) {
      return .privilegedRequestDisabled
    }
    return nil
  }

  /// Why addresses after `lastIOVA` fault.
  fileprivate var beyondReason: VTdFaultReason {
    translation == .passThrough ? .beyondHostAddressWidth : .beyondSecondStage
  }
}

extension DMARequest {
  func fault(
    _ reason: VTdFaultReason, at address: UInt64, suppressed: Bool
  ) -> FaultRecord {
    FaultRecord(
      requester: requester, pasid: pasid, iova: IOVA(address), access: access,
      reason: .vtd(reason), isSuppressed: suppressed, addressType: addressType)
  }
}
