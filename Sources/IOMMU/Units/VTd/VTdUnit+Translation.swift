// SPDX-License-Identifier: Apache-2.0

// From a request to physical addresses (VT-d §3.4.3).
//
// A request is translated in this order: interrupt address range, address space (PASID cache or
// configuration tables), checks of the request against the configuration entries, IOTLB, page walk.
// A request whose pages are all in the IOTLB takes the unit's lock once. At the first page that is
// not there the lock is released, the page is walked, and the look-up continues with the next page.

internal import Synchronization

extension VTdUnit {
  /// VT-d §3.15: a request without PASID to this range is an interrupt, never a memory access.
  static let interruptRange: ClosedRange<UInt64> = 0xfee0_0000...0xfeef_ffff

  /// The progress of a request, and the state that its last look-up in the caches left for the
  /// walk.
  private struct Progress {
    var pages: TranslationProgress
    /// The tag of the translations that the segments come from.
    var tag = IOTLBTag(domain: DomainID(rawValue: 0))
    /// The generation of the caches at a miss.
    var generation: UInt64 = 0
    var space: VTdAddressSpace?
    /// The first-stage table where the walk begins, from the paging-structure cache. With `nil` the
    /// walk begins at the top.
    var cachedTable: PagingStructureCache.CachedTable?

    init(_ pages: TranslationProgress) { self.pages = pages }
  }

  /// The result of looking up the remaining pages of a request in the caches.
  private enum CacheOutcome {
    case complete
    /// The PASID cache does not have the address space.
    case addressSpaceMiss
    /// The IOTLB does not have the page at the request's current address.
    case pageMiss
    /// The configuration entries do not allow the request, or the address is too wide.
    case fault(VTdFaultReason)
  }

  // MARK: Requests within one page

  /// Returns the physical address of a request that is within one page and hits the PASID cache and
  /// the IOTLB; `nil` for every other request.
  @inline(never)
  func cachedAddress(of request: DMARequest, inFlight: InFlightRequest) -> PhysicalAddress? {
    guard let last = request.lastIOVAInPage, !isInterrupt(request, last) else { return nil }
    return state.withLock { lookUpPage(request, inFlight: inFlight, in: &$0) }
  }

  @inline(__always)
  private func lookUpPage(
    _ request: DMARequest, inFlight: InFlightRequest, in state: inout State
  ) -> PhysicalAddress? {
    guard let space = state.addressSpaces.find(request.addressSpaceKey),
      request.iova.rawValue <= space.pointee.lastIOVA.rawValue
    else { return nil }
    let domain = space.pointee.domain
    inFlight.use(InFlightKey(domain))
    return state.iotlb.lookup(space.pointee.tag, request.iova, for: request.access)?
      .address(of: request.iova)
  }

  // MARK: All requests

  /// Translates the whole of `request`.
  /// - Parameter segments: receives the physical ranges; has room for one segment per page.
  func translate(
    _ request: DMARequest, inFlight: InFlightRequest,
    segments: UnsafeMutableBufferPointer<DMASegment>
  ) -> TranslationOutcome {
    // There is no memory beyond the end of the address space.
    guard let last = request.lastIOVA, !isInterrupt(request, last) else { return .unclaimed }
    return translatePages(request, inFlight: inFlight, segments: segments)
  }

  @inline(__always)
  private func isInterrupt(_ request: DMARequest, _ last: IOVA) -> Bool {
    request.pasid == nil && request.iova.rawValue <= Self.interruptRange.upperBound
      && last.rawValue >= Self.interruptRange.lowerBound
  }

  @inline(never)
  func translatePages(
    _ request: DMARequest, inFlight: InFlightRequest,
    segments: UnsafeMutableBufferPointer<DMASegment>
  ) -> TranslationOutcome {
    var progress = Progress(TranslationProgress(request, into: segments))
    while true {
      let outcome = state.withLock { state in
        lookUpPages(request, &progress, inFlight: inFlight, in: &state)
      }
      switch outcome {
      case .complete:
        return progress.pages.outcome
      case .addressSpaceMiss:
        if let fault = fillAddressSpace(request, progress) { return .fault(fault) }
      case .fault(let reason):
        return .fault(
          request.fault(
            reason, at: progress.pages.iova,
            isSuppressed: progress.space?.suppressesFaults ?? false))
      case .pageMiss:
        inFlight.didWalk()
        guard let space = progress.space else { return .unclaimed }
        switch fillPage(progress, request, space) {
        case .failure(let reason):
          return .fault(
            request.fault(
              reason, at: progress.pages.iova, isSuppressed: space.suppressesFaults))
        case .success(let page):
          progress.pages.append(page)
          if progress.pages.remaining == 0 { return progress.pages.outcome }
        }
      }
    }
  }

  // MARK: Caches

  /// Translates the remaining pages of the request as far as the caches have them. Requires the
  /// unit's lock.
  @inline(__always)
  private func lookUpPages(
    _ request: DMARequest, _ progress: inout Progress, inFlight: InFlightRequest,
    in state: inout State
  ) -> CacheOutcome {
    guard let space = state.addressSpaces.find(request.addressSpaceKey) else {
      progress.generation = state.generation
      return .addressSpaceMiss
    }
    let domain = space.pointee.domain
    inFlight.use(InFlightKey(domain))
    let tag = space.pointee.tag
    let lastIOVA = space.pointee.lastIOVA
    let isPassThrough = space.pointee.translationType == .passThrough
    let access = space.pointee.tableAccess(request.access)
    if progress.pages.segmentCount > 0, progress.tag != tag {
      // Another domain was attached meanwhile: translate the whole request through its table.
      progress.pages.restart(request)
    }
    progress.tag = tag
    if let reason = space.pointee.fault(of: request) {
      progress.space = space.pointee
      return .fault(reason)
    }
    while progress.pages.remaining > 0 {
      guard progress.pages.iova.rawValue <= lastIOVA.rawValue else {
        progress.space = space.pointee
        return .fault(space.pointee.addressWidthFault)
      }
      if isPassThrough {
        // One page at a time, because the comparison above covers the page of `iova` only.
        progress.pages.append(.identity(of: progress.pages.iova))
        continue
      }
      guard let page = state.iotlb.lookup(tag, progress.pages.iova, for: access) else {
        progress.space = space.pointee
        progress.generation = state.generation
        if space.pointee.hasFirstStage {
          progress.cachedTable = state.pagingStructures.find(tag, progress.pages.iova)
        }
        return .pageMiss
      }
      progress.pages.append(page)
    }
    return .complete
  }

  /// Reads the configuration tables for the request, and caches the address space unless an
  /// invalidation has happened meanwhile. In that case the caller reads the tables again.
  private func fillAddressSpace(_ request: DMARequest, _ progress: Progress) -> FaultRecord? {
    switch resolveAddressSpace(request, progress.generation) {
    case .fault(let reason, let isSuppressed):
      return request.fault(
        reason, at: progress.pages.iova, isSuppressed: isSuppressed && reason.isQualified)
    case .success(let space):
      state.withLock { state in
        if state.generation == progress.generation {
          state.addressSpaces.insert(request.addressSpaceKey, space)
        }
      }
      return nil
    }
  }

  /// Walks the page at the request's current address, and caches the translation unless an
  /// invalidation has happened meanwhile.
  @inline(__always)
  private func fillPage(
    _ progress: Progress, _ request: DMARequest, _ space: VTdAddressSpace
  ) -> Result<Translation, VTdFaultReason> {
    if space.hasFirstStage { return fillFirstStage(progress, request, space) }
    let result = walkSecondStage(progress.pages.iova, space.tableAccess(request.access), space)
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
    if let cachedTable = progress.cachedTable { root.begin(at: cachedTable) }
    var walkedEntries = WalkedEntries()
    let result = walkFirstStage(
      progress.pages.iova, request.access, space, from: root, &walkedEntries)
    // Software that extends permissions need not invalidate (VT-d §6.5.3.3), so a fault must not
    // result from cached paging structures: the walk is repeated from the top.
    if case .failure = result, progress.cachedTable != nil {
      var progress = progress
      progress.cachedTable = nil
      return fillFirstStage(progress, request, space)
    }
    if case .success(let page) = result {
      state.withLock { state in
        guard state.generation == progress.generation else { return }
        let iova = progress.pages.iova
        state.iotlb.insert(space.tag, iova, page)
        walkedEntries.forEachTable(of: VTdFirstStage.self, from: root) { table in
          state.pagingStructures.insert(
            space.tag, iova, shift: VTdFirstStage.tableShift(table.level), table)
        }
      }
    }
    return result
  }
}

extension VTdAddressSpace {
  /// Returns the access that the page tables check. Second-stage tables distinguish only reading
  /// and writing.
  @inline(__always)
  fileprivate func tableAccess(_ access: Permissions) -> Permissions {
    if hasFirstStage { return access }
    return access.isDisjoint(with: .anyWrite) ? .read : .write
  }

  /// Returns the fault of a request that the configuration entries do not allow.
  @inline(__always)
  fileprivate func fault(of request: DMARequest) -> VTdFaultReason? {
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

  /// The fault of addresses above `lastIOVA`.
  fileprivate var addressWidthFault: VTdFaultReason {
    translationType == .passThrough ? .beyondHostAddressWidth : .beyondSecondStage
  }
}

extension DMARequest {
  /// Returns the fault record of this request.
  /// - Parameter address: the first address without a translation.
  func fault(
    _ reason: VTdFaultReason, at address: IOVA, isSuppressed: Bool
  ) -> FaultRecord {
    FaultRecord(self, .vtd(reason), at: address, isSuppressed: isSuppressed)
  }
}
