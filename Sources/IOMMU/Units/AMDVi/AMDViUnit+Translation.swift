// SPDX-License-Identifier: Apache-2.0

// From a request to physical addresses (§2.2).
//
// A request is translated in this order: special addresses, address space (cached, or read from the
// device table and guest CR3 tables), checks of the request against the device table entry, IOTLB,
// page walk. A request whose pages are all in the IOTLB takes the unit's lock once. At the first
// page that is not there the lock is released, the page is walked, and the look-up continues with
// the next page.

internal import Synchronization

extension AMDViUnit {
  /// The result of looking up the remaining pages of a request in the caches.
  private enum CacheOutcome {
    case complete
    /// The address space is not cached.
    case addressSpaceMiss
    /// The IOTLB does not have the page at the request's current address. The walk begins at a
    /// guest table from the paging-structure cache, or at the top if that is `nil`.
    case pageMiss(AMDViAddressSpace, PagingStructureCache.CachedTable?)
    case fault(AMDViEvent, AMDViAddressSpace)
  }

  // MARK: Requests within one page

  /// Returns the physical address of a request that is within one page and hits the cache of
  /// address spaces and the IOTLB; `nil` for every other request.
  @inline(never)
  func cachedAddress(of request: DMARequest, inFlight: InFlightRequest) -> PhysicalAddress? {
    guard let last = request.lastIOVAInPage, !isSpecial(request, last) else { return nil }
    return state.withLock { lookUpPage(request, inFlight: inFlight, in: &$0) }
  }

  @inline(__always)
  private func lookUpPage(
    _ request: DMARequest, inFlight: InFlightRequest, in state: inout State
  ) -> PhysicalAddress? {
    guard let space = state.addressSpaces.find(request.addressSpaceKey),
      space.pointee.translationType != .passThrough
    else {
      return nil
    }
    inFlight.use(InFlightKey(space.pointee.domain))
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
    guard let last = request.lastIOVA else { return .unclaimed }
    if isSpecial(request, last) { return specialOutcome(request) }
    return translatePages(request, inFlight: inFlight, segments: segments)
  }

  @inline(__always)
  private func isSpecial(_ request: DMARequest, _ last: IOVA) -> Bool {
    request.pasid == nil && isSpecial(request.iova, last)
  }

  @inline(never)
  func translatePages(
    _ request: DMARequest, inFlight: InFlightRequest,
    segments: UnsafeMutableBufferPointer<DMASegment>
  ) -> TranslationOutcome {
    var progress = TranslationProgress(request, into: segments)
    while true {
      let (outcome, generation) = state.withLock { state in
        (lookUpPages(request, &progress, inFlight: inFlight, in: &state), state.generation)
      }
      switch outcome {
      case .complete:
        return progress.outcome
      case .fault(let event, let space):
        return .fault(fault(request, event, at: progress.iova, space.faultSuppression))
      case .addressSpaceMiss:
        switch fillAddressSpace(request, generation) {
        case .filled:
          break
        case .fault(let event, let entry):
          let suppression = entry.map { FaultSuppression($0) } ?? FaultSuppression()
          return .fault(fault(request, event, at: progress.iova, suppression))
        case .untranslated:
          inFlight.use(InFlightKey(DomainID(rawValue: 0)))
          return forwardUntranslated(&progress)
        case .disabled:
          return .unclaimed
        }
      case .pageMiss(let space, let cachedTable):
        inFlight.didWalk()
        switch fillPage(progress.iova, request.access, space, from: cachedTable, generation) {
        case .failure(let event):
          return .fault(fault(request, event, at: progress.iova, space.faultSuppression))
        case .success(let page):
          progress.append(page)
          if progress.remaining == 0 { return progress.outcome }
        }
      }
    }
  }

  // MARK: Caches

  /// Translates the remaining pages of the request as far as the caches have them. Requires the
  /// unit's lock.
  @inline(__always)
  private func lookUpPages(
    _ request: DMARequest, _ progress: inout TranslationProgress, inFlight: InFlightRequest,
    in state: inout State
  ) -> CacheOutcome {
    guard let found = state.addressSpaces.find(request.addressSpaceKey) else {
      return .addressSpaceMiss
    }
    let space = found.pointee
    inFlight.use(InFlightKey(space.domain))
    if request.addressType != .untranslated, !space.allowsDeviceTLB {
      return .fault(.invalidRequest(.translationRequest, at: progress.iova.rawValue), space)
    }
    // IR and IW.
    guard space.allowed.isSuperset(of: request.access) else {
      return .fault(.denied(space.eventSpace, at: progress.iova.rawValue), space)
    }
    if space.translationType == .passThrough { return passThrough(space, &progress) }
    while progress.remaining > 0 {
      let iova = progress.iova
      guard let page = state.iotlb.lookup(space.tag, iova, for: request.access) else {
        let cachedTable = space.hasGuest ? state.pagingStructures.find(space.tag, iova) : nil
        return .pageMiss(space, cachedTable)
      }
      progress.append(page)
    }
    return .complete
  }

  /// Translates a request with Mode 0 and without guest tables: addresses are system physical
  /// addresses.
  private func passThrough(
    _ space: AMDViAddressSpace, _ progress: inout TranslationProgress
  ) -> CacheOutcome {
    while progress.remaining > 0 {
      guard progress.iova.rawValue <= space.host.lastAddress else {
        return .fault(.absent(space.eventSpace, at: progress.iova.rawValue), space)
      }
      progress.append(.identity(of: progress.iova))
    }
    return .complete
  }

  /// Forwards a request whose device table entry has V clear, without any check.
  private func forwardUntranslated(_ progress: inout TranslationProgress) -> TranslationOutcome {
    while progress.remaining > 0 {
      guard progress.iova.rawValue >> UInt64(memory.addressBits) == 0 else { return .unclaimed }
      progress.append(.identity(of: progress.iova))
    }
    return progress.outcome
  }

  /// Walks the page that contains `iova`, and caches the translation unless an invalidation has
  /// happened since `generation`.
  @inline(__always)
  private func fillPage(
    _ iova: IOVA, _ access: Permissions, _ space: AMDViAddressSpace,
    from cachedTable: PagingStructureCache.CachedTable?, _ generation: UInt64
  ) -> Result<Translation, AMDViEvent> {
    if space.hasGuest { return fillGuest(iova, access, space, from: cachedTable, generation) }
    switch walkHost(iova.rawValue, access, space.host, space.domain) {
    case .failure(let event):
      return .failure(event)
    case .success(let walked):
      let page = space.limit(walked)
      state.withLock { state in
        guard state.generation == generation else { return }
        state.iotlb.insert(
          space.tag, iova, page,
          attributes: AMDViLeafAttributes(shift: walked.shift).attributes)
      }
      return .success(page)
    }
  }

  @inline(never)
  private func fillGuest(
    _ iova: IOVA, _ access: Permissions, _ space: AMDViAddressSpace,
    from cachedTable: PagingStructureCache.CachedTable?, _ generation: UInt64
  ) -> Result<Translation, AMDViEvent> {
    var root = space.guest
    if let cachedTable { root.begin(at: cachedTable) }
    var walkedEntries = WalkedEntries()
    switch walkGuest(iova, access, space, from: root, &walkedEntries) {
    case .failure(let event):
      // Software that extends permissions need not invalidate, so an event must not result from
      // cached guest table entries: the walk is repeated from the top.
      guard cachedTable != nil else { return .failure(event) }
      return fillGuest(iova, access, space, from: nil, generation)
    case .success(let result):
      let page = space.limit(result.page)
      state.withLock { state in
        guard state.generation == generation else { return }
        state.iotlb.insert(space.tag, iova, page, attributes: result.leaf.attributes)
        walkedEntries.forEachTable(of: AMDGuest.self, from: root) { table in
          state.pagingStructures.insert(
            space.tag, iova, shift: AMDGuest.tableShift(table.level), table)
        }
      }
      return .success(page)
    }
  }
}

extension AMDViAddressSpace {
  /// Returns `page` without the permissions that IR and IW deny.
  @inline(__always)
  fileprivate func limit(_ page: Translation) -> Translation {
    Translation(
      physical: page.physical, shift: page.shift,
      permissions: page.permissions.intersection(allowed))
  }
}
