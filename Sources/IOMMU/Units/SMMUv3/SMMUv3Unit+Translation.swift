// SPDX-License-Identifier: Apache-2.0

// From a transaction to physical addresses (§3.4, §15 Translation procedure).
//
// A transaction is translated in this order: address space (cached, or read from STE and CD), TLB,
// page walk. A transaction whose pages are all in the TLB takes the unit's lock once. At the first
// page that is not there the lock is released, the page is walked, and the look-up continues with
// the next page.

internal import Synchronization

extension SMMUv3Unit {
  /// The result of looking up the remaining pages of a transaction in the caches.
  private enum CacheOutcome {
    case complete
    /// The address space is not cached.
    case addressSpaceMiss
    /// The TLB does not have the page at the transaction's current address, or the cached page is
    /// not sufficient.
    case pageMiss(SMMUv3AddressSpace)
    case fault(SMMUv3Event, SMMUv3AddressSpace.FaultConfiguration)
  }

  // MARK: Transactions within one page

  /// Returns the physical address of a transaction that is within one page and hits the cache of
  /// address spaces and the TLB; `nil` for every other transaction.
  @inline(never)
  func cachedAddress(of request: DMARequest, inFlight: InFlightRequest) -> PhysicalAddress? {
    guard request.lastIOVAInPage != nil else { return nil }
    return state.withLock { lookUpPage(request, inFlight: inFlight, in: &$0) }
  }

  @inline(__always)
  private func lookUpPage(
    _ request: DMARequest, inFlight: InFlightRequest, in state: inout State
  ) -> PhysicalAddress? {
    guard let space = state.addressSpaces.find(request.addressSpaceKey), space.pointee.hasTables
    else {
      return nil
    }
    inFlight.use(space.pointee.inFlightKey)
    let address = space.pointee.effectiveAddress(request.iova)
    return state.iotlb.lookup(space.pointee.tag, address, for: request.access)?.address(of: address)
  }

  // MARK: All transactions

  /// Translates the whole of `request`.
  /// - Parameter segments: receives the physical ranges; has room for one segment per page.
  func translate(
    _ request: DMARequest, inFlight: InFlightRequest,
    segments: UnsafeMutableBufferPointer<DMASegment>
  ) -> TranslationOutcome {
    // There is no memory beyond the end of the address space.
    guard request.lastIOVA != nil else { return .unclaimed }
    return translatePages(request, inFlight: inFlight, segments: segments)
  }

  @inline(never)
  private func translatePages(
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
      case .addressSpaceMiss:
        if case .fault(let event, let faults) = fillAddressSpace(request, generation) {
          return .fault(request.fault(event, at: progress.iova, faults))
        }
      case .fault(let event, let faults):
        return .fault(request.fault(event, at: progress.iova, faults))
      case .pageMiss(let space):
        inFlight.didWalk()
        switch fillPage(progress.iova, request.access, space, generation) {
        case .failure(let event):
          let faults = event.isStage2 ? space.stage2Faults : space.stage1Faults
          return .fault(request.fault(event, at: progress.iova, faults))
        case .success(let page):
          progress.append(page)
          if progress.remaining == 0 { return progress.outcome }
        }
      }
    }
  }

  // MARK: Caches

  /// Translates the remaining pages of the transaction as far as the caches have them. Requires the
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
    guard space.hasTables else {
      return translateWithoutTables(space, &progress, inFlight: inFlight)
    }
    inFlight.use(space.inFlightKey)
    while progress.remaining > 0 {
      let address = space.effectiveAddress(progress.iova)
      guard let page = state.iotlb.lookup(space.tag, address) else {
        return .pageMiss(space)
      }
      guard page.permissions.isSuperset(of: request.access) else {
        return permissionOutcome(address, space, in: &state)
      }
      progress.append(page)
    }
    return .complete
  }

  /// Returns the outcome for a cached page that does not allow the access. A page that is read-only
  /// in stage 1 faults until software invalidates it, except when hardware manages its dirty state.
  /// Every other page is walked again: the event of a stage 2 fault needs the intermediate address.
  private func permissionOutcome(
    _ address: IOVA, _ space: SMMUv3AddressSpace, in state: inout State
  ) -> CacheOutcome {
    guard !space.updatesDirtyState, let entry = state.iotlb.entry(space.tag, address),
      SMMUv3LeafAttributes(entry.attributes).isReadOnly
    else { return .pageMiss(space) }
    return .fault(.stage1(.permission), space.stage1Faults)
  }

  /// Translates a transaction of a stream that aborts or bypasses translation.
  private func translateWithoutTables(
    _ space: SMMUv3AddressSpace, _ progress: inout TranslationProgress,
    inFlight: InFlightRequest
  ) -> CacheOutcome {
    guard space.translationType == .bypass else {
      return .fault(SMMUv3Event(.aborted), .init(records: false))
    }
    // No TLB entry is used. Only commands that change the configuration affect the transaction, and
    // they wait for all transactions of the stream.
    inFlight.use(InFlightKey(vmid: 0, asid: 0))
    while progress.remaining > 0 {
      // §3.4: the output address is the input address, if the output address size is sufficient.
      guard progress.iova.rawValue >> UInt64(capabilities.outputAddressBits) == 0 else {
        return .fault(.stage1(.addressSize), .init())
      }
      progress.append(.identity(of: progress.iova))
    }
    return .complete
  }

  /// Walks the page that contains `iova`, and caches the translation unless an invalidation has
  /// happened since `generation`.
  @inline(__always)
  func fillPage(
    _ iova: IOVA, _ access: Permissions, _ space: SMMUv3AddressSpace, _ generation: UInt64
  ) -> Result<Translation, SMMUv3Event> {
    let address = space.effectiveAddress(iova)
    switch walk(address, access, space) {
    case .failure(let event):
      return .failure(event)
    case .success(let result):
      state.withLock { state in
        guard state.generation == generation else { return }
        state.iotlb.insert(
          space.tag, address, result.page, attributes: result.leaf.attributes)
      }
      return .success(result.page)
    }
  }
}

extension DMARequest {
  /// Returns the fault record of this request.
  /// - Parameters:
  ///   - address: the first address without a translation.
  ///   - configuration: applies to events that software can configure.
  fileprivate func fault(
    _ event: SMMUv3Event, at address: IOVA,
    _ configuration: SMMUv3AddressSpace.FaultConfiguration
  ) -> FaultRecord {
    let isSuppressed =
      event.kind == .aborted || event.kind.isConfigurable && !configuration.records
    var event = event
    event.stalls = event.kind.isConfigurable && configuration.stalls
    return FaultRecord(self, .smmuv3(event), at: address, isSuppressed: isSuppressed)
  }
}
