// A transaction becomes physical addresses (§3.4, §15 Translation procedure).
//
// The everyday one finds all its pages in the TLB under one acquisition of the unit's lock. At the
// first page that is not there the lock is dropped, the page walked, and the rest tried again.

internal import Synchronization

extension SMMUv3Unit {
  private enum Lookup {
    case complete
    case unknownContext
    /// The page where the transaction stands is to be walked.
    case miss(StreamContext)
    case failure(SMMUv3Event, StreamContext.FaultBehaviour)
  }

  /// The transaction of everyday: within one page, and the TLB has it. Nil: anything else.
  @inline(never)
  func find(_ request: DMARequest, gate: PortGate) -> PhysicalAddress? {
    guard request.lastIOVAInPage != nil else { return nil }
    return state.withLock { hit(request, gate: gate, in: &$0) }
  }

  /// Translates all of `request`, storing the stretches of memory it is for.
  /// - Parameter segments: room for one segment for each page.
  func translate(
    _ request: DMARequest, gate: PortGate, segments: UnsafeMutableBufferPointer<DMASegment>
  ) -> TranslationOutcome {
    // Past the end of the address space there is nothing.
    guard request.lastIOVA != nil else { return .unclaimed }
    return translatePages(request, gate: gate, segments: segments)
  }

  @inline(__always)
  private func hit(
    _ request: DMARequest, gate: PortGate, in state: inout State
  ) -> PhysicalAddress? {
    guard let context = state.contexts.find(request.spaceKey), context.pointee.hasTables else {
      return nil
    }
    gate.use(space: context.pointee.gateSpace)
    let address = context.pointee.effective(request.iova.rawValue)
    return state.iotlb.lookup(context.pointee.tag, address, for: request.access)?
      .address(of: address)
  }

  @inline(never)
  private func translatePages(
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
      case .failure(let event, let behaviour):
        return .fault(request.fault(event, at: progress.iova, behaviour))
      case .unknownContext:
        if case .failure(let event, let behaviour) = findContext(request, generation) {
          return .fault(request.fault(event, at: progress.iova, behaviour))
        }
      case .miss(let context):
        switch fill(progress.iova, request.access, context, generation) {
        case .failure(let event):
          let behaviour = event.isStage2 ? context.stage2Faults : context.stage1Faults
          return .fault(request.fault(event, at: progress.iova, behaviour))
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
    guard let found = state.contexts.find(request.spaceKey) else { return .unknownContext }
    let context = found.pointee
    guard context.hasTables else { return pass(context, &progress, gate: gate) }
    gate.use(space: context.gateSpace)
    while progress.left > 0 {
      let address = context.effective(progress.iova)
      guard let page = state.iotlb.lookup(context.tag, address) else { return .miss(context) }
      guard page.permissions.isSuperset(of: request.access) else {
        return refusal(address, context, in: &state)
      }
      progress.append(page)
    }
    return .complete
  }

  /// What a cached page that does not allow the access means. That stage 1 forbids writing is cached as
  /// everything else of it, and faults until it is invalidated; unless hardware might make the page
  /// dirty. What stage 2 forbids is looked up again, for the address that its event tells.
  private func refusal(
    _ address: UInt64, _ context: StreamContext, in state: inout State
  ) -> Lookup {
    guard !context.updatesDirtyState, let entry = state.iotlb.entry(context.tag, address),
      CachedLeaf(entry.attributes).isReadOnly
    else { return .miss(context) }
    return .failure(.stage1(.permission), context.stage1Faults)
  }

  /// Streams without tables.
  private func pass(
    _ context: StreamContext, _ progress: inout RequestProgress, gate: PortGate
  ) -> Lookup {
    guard context.path == .bypass else {
      return .failure(SMMUv3Event(.aborted), .init(records: false))
    }
    // Nothing is cached, so nothing is taken away but by the configuration, which drains the port.
    gate.use(space: TranslationScope.gateSpace(vmid: 0, asid: 0))
    while progress.left > 0 {
      // §3.4: the output is the input, if there are addresses like that.
      guard progress.iova >> UInt64(capabilities.outputAddressBits) == 0 else {
        return .failure(.stage1(.addressSize), .init())
      }
      progress.append(.itself(progress.iova))
    }
    return .complete
  }

  /// Walks the page at `iova`, and caches what was found unless an invalidation came in between.
  @inline(__always)
  func fill(
    _ iova: UInt64, _ access: Permissions, _ context: StreamContext, _ generation: UInt64
  ) -> Result<Translation, SMMUv3Event> {
    let address = context.effective(iova)
    switch walk(address, access, context) {
    case .failure(let event):
      return .failure(event)
    case .success(let found):
      state.withLock { state in
        guard state.generation == generation else { return }
        state.iotlb.insert(context.tag, address, found.page, attributes: found.leaf.attributes)
      }
      return .success(found.page)
    }
  }
}

extension StreamContext {
  @inline(__always)
  var hasTables: Bool {
    switch path {
    case .abort, .bypass: false
    case .stage1, .stage2, .nested: true
    }
  }
}

extension DMARequest {
  /// - Parameter behaviour: what the configuration says of faults that it has a say in.
  fileprivate func fault(
    _ event: SMMUv3Event, at address: UInt64, _ behaviour: StreamContext.FaultBehaviour
  ) -> FaultRecord {
    let isSuppressed =
      event.kind == .aborted || event.kind.isConfigurable && !behaviour.records
    var event = event
    event.stalls = event.kind.isConfigurable && behaviour.stalls
    return FaultRecord(
      requester: requester, pasid: pasid, iova: IOVA(address), access: access,
      reason: .smmuv3(event), isSuppressed: isSuppressed)
  }
}
