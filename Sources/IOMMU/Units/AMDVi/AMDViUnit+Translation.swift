// A request becomes physical addresses (§2.2).
//
// The everyday request finds all its pages in the IOTLB under one acquisition of the unit's lock. At
// the first page that is not there the lock is dropped, the page walked, and the rest tried again.

internal import Synchronization

extension AMDViUnit {
  private enum Lookup {
    case complete
    case unknownSpace
    /// The page where the request stands is to be walked: from the top, or from this step of the guest
    /// tables on.
    case miss(AMDViAddressSpace, PagingStructureCache.CachedTable?)
    case failure(AMDViEvent, AMDViAddressSpace)
  }

  /// The request of everyday: within one page, and the IOTLB has it. Nil: anything else.
  @inline(never)
  func find(_ request: DMARequest, gate: PortGate) -> PhysicalAddress? {
    guard let last = request.lastIOVAInPage, !isSpecial(request, last.rawValue) else { return nil }
    return state.withLock { hit(request, gate: gate, in: &$0) }
  }

  @inline(__always)
  private func isSpecial(_ request: DMARequest, _ last: UInt64) -> Bool {
    request.pasid == nil && isSpecial(request.iova.rawValue, last)
  }

  /// Translates all of `request`, storing the stretches of memory it is for.
  /// - Parameter segments: room for one segment for each page.
  func translate(
    _ request: DMARequest, gate: PortGate, segments: UnsafeMutableBufferPointer<DMASegment>
  ) -> TranslationOutcome {
    // Past the end of the address space there is nothing.
    guard let last = request.lastIOVA else { return .unclaimed }
    if isSpecial(request, last.rawValue) {
      return specialOutcome(request, last.rawValue)
    }
    return translatePages(request, gate: gate, segments: segments)
  }

  @inline(__always)
  private func hit(
    _ request: DMARequest, gate: PortGate, in state: inout State
  ) -> PhysicalAddress? {
    guard let space = state.spaces.find(request.spaceKey), space.pointee.path != .passThrough else {
      return nil
    }
    gate.use(space.pointee.domain)
    let iova = request.iova.rawValue
    return state.iotlb.lookup(space.pointee.tag, iova, for: request.access)?.address(of: iova)
  }

  @inline(never)
  func translatePages(
    _ request: DMARequest, gate: PortGate,
    segments: UnsafeMutableBufferPointer<DMASegment>
  ) -> TranslationOutcome {
    var progress = RequestProgress(request, into: segments)
    while true {
      let (lookup, generation) = state.withLock { state in
        (lookUp(request, &progress, gate: gate, in: &state), state.generation)
      }
      switch lookup {
      case .complete:
        return progress.mapped
      case .failure(let event, let space):
        return .fault(fault(request, event, at: progress.iova, space.suppression))
      case .unknownSpace:
        switch findSpace(request, generation) {
        case .found:
          break
        case .failure(let event, let entry):
          let suppression = entry.map { Suppression($0) } ?? Suppression()
          return .fault(fault(request, event, at: progress.iova, suppression))
        case .untranslated:
          gate.use(DomainID(rawValue: 0))
          return pass(&progress)
        case .disabled:
          return .unclaimed
        }
      case .miss(let space, let step):
        switch fill(progress.iova, request.access, space, from: step, generation) {
        case .failure(let event):
          return .fault(fault(request, event, at: progress.iova, space.suppression))
        case .success(let page):
          progress.append(page)
          if progress.left == 0 { return progress.mapped }
        }
      }
    }
  }

  @inline(__always)
  private func lookUp(
    _ request: DMARequest, _ progress: inout RequestProgress, gate: PortGate,
    in state: inout State
  ) -> Lookup {
    guard let found = state.spaces.find(request.spaceKey) else { return .unknownSpace }
    let space = found.pointee
    gate.use(space.domain)
    if request.addressType != .untranslated, !space.allowsDeviceTLB {
      return .failure(.invalidRequest(.translationRequest, at: progress.iova), space)
    }
    // IR and IW.
    guard space.allowed.isSuperset(of: request.access) else {
      return .failure(.denied(space.subject, at: progress.iova), space)
    }
    if space.path == .passThrough { return pass(space, &progress) }
    while progress.left > 0 {
      guard let page = state.iotlb.lookup(space.tag, progress.iova, for: request.access) else {
        let step = space.hasGuest ? state.pagingStructures.find(space.tag, progress.iova) : nil
        return .miss(space, step)
      }
      progress.append(page)
    }
    return .complete
  }

  /// Mode 0 without guest tables: addresses are physical.
  private func pass(_ space: AMDViAddressSpace, _ progress: inout RequestProgress) -> Lookup {
    while progress.left > 0 {
      guard progress.iova <= space.host.lastAddress else {
        return .failure(.absent(space.subject, at: progress.iova), space)
      }
      progress.append(.itself(progress.iova))
    }
    return .complete
  }

  /// V clear: nothing is asked.
  private func pass(_ progress: inout RequestProgress) -> TranslationOutcome {
    while progress.left > 0 {
      guard progress.iova >> UInt64(memory.addressBits) == 0 else { return .unclaimed }
      progress.append(.itself(progress.iova))
    }
    return progress.mapped
  }

  /// Walks the page at `iova`, and caches what was found unless an invalidation came in between.
  @inline(__always)
  private func fill(
    _ iova: UInt64, _ access: Permissions, _ space: AMDViAddressSpace,
    from step: PagingStructureCache.CachedTable?, _ generation: UInt64
  ) -> Result<Translation, AMDViEvent> {
    if space.hasGuest { return fillGuest(iova, access, space, from: step, generation) }
    switch walkHost(iova, access, space.host, space.domain) {
    case .failure(let event):
      return .failure(event)
    case .success(let walked):
      let page = space.limit(walked)
      state.withLock { state in
        guard state.generation == generation else { return }
        state.iotlb.insert(
          space.tag, iova, page, attributes: AMDViCachedPage(shift: walked.shift).attributes)
      }
      return .success(page)
    }
  }

  @inline(never)
  private func fillGuest(
    _ iova: UInt64, _ access: Permissions, _ space: AMDViAddressSpace,
    from step: PagingStructureCache.CachedTable?, _ generation: UInt64
  ) -> Result<Translation, AMDViEvent> {
    var root = space.guest
    if let step { root.begin(at: step) }
    var steps = WalkedEntries()
    switch walkGuest(iova, access, space, from: root, &steps) {
    case .failure(let event):
      // No event comes of what is cached: what is more than it was needs no invalidation.
      guard step != nil else { return .failure(event) }
      return fillGuest(iova, access, space, from: nil, generation)
    case .success(let walked):
      let page = space.limit(walked.page)
      state.withLock { state in
        guard state.generation == generation else { return }
        state.iotlb.insert(space.tag, iova, page, attributes: walked.cached.attributes)
        steps.forEachTable(of: AMDGuest.self, from: root) { step in
          state.pagingStructures.insert(
            space.tag, iova, shift: AMDGuest.tableShift(step.level), step)
        }
      }
      return .success(page)
    }
  }
}

extension AMDViAddressSpace {
  /// What IR and IW leave of a page's permissions.
  @inline(__always)
  fileprivate func limit(_ page: Translation) -> Translation {
    Translation(
      physical: page.physical, shift: page.shift,
      permissions: page.permissions.intersection(allowed))
  }
}
