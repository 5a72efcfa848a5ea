// A request becomes physical addresses: VT-d §3.4.3 (scalable-mode tables), §3.7 (second stage).
//
// The everyday request finds all its pages in the IOTLB under one acquisition of the unit's lock. At
// the first page that is not there the lock is dropped, the page walked, and the rest tried again.

internal import Synchronization

extension VTdUnit {
  /// VT-d §3.15: requests without PASID to this range are interrupts, never memory.
  static let interruptRange: ClosedRange<UInt64> = 0xfee0_0000...0xfeef_ffff

  /// Where a request stands while its pages are looked up.
  private struct Progress {
    var iova: UInt64
    var left: Int
    var segments = 0
    /// Set when the look-up stops: the state of the caches it saw.
    var generation: UInt64 = 0
    var space: VTdAddressSpace?
  }

  private enum Lookup {
    case complete
    /// The page at `Progress.iova` is to be walked.
    case miss
    case unknownSpace
    /// The page at `Progress.iova` is beyond what the space can translate.
    case beyond
  }

  /// Translates all of `request`, storing the stretches of memory it is for.
  /// - Parameter segments: room for one segment for each page.
  func translate(
    _ request: DMARequest, gate: PortGate, segments: UnsafeMutableBufferPointer<DMASegment>
  ) -> TranslationOutcome {
    let key = Self.key(request.requester, request.pasid)
    // Past the end of the address space there is nothing.
    guard let last = request.lastIOVA else { return .unclaimed }
    if request.pasid == nil, request.iova.rawValue <= Self.interruptRange.upperBound,
      last.rawValue >= Self.interruptRange.lowerBound
    {
      return .unclaimed
    }
    if request.iova.rawValue ^ last.rawValue < UInt64(Frame.size),
      let physical = state.withLock({ hit(request, key, gate: gate, in: &$0) })
    {
      segments[0] = DMASegment(physical: physical, count: request.count)
      return .mapped(segments: 1)
    }
    return translatePages(request, key, gate: gate, segments: segments)
  }

  /// The request of everyday: one page, and the IOTLB has it. Nil: anything else.
  @inline(__always)
  private func hit(
    _ request: DMARequest, _ key: UInt64, gate: PortGate, in state: inout State
  ) -> PhysicalAddress? {
    guard let space = state.spaces.find(key), request.iova.rawValue <= space.pointee.lastIOVA
    else { return nil }
    let domain = space.pointee.domain
    gate.use(domain)
    guard let page = state.iotlb.lookup(IotlbTag(domain: domain), request.iova.rawValue),
      page.permissions.isSuperset(of: request.access)
    else { return nil }
    let mask = 1 &<< UInt64(truncatingIfNeeded: page.shift) &- 1
    return PhysicalAddress(page.physical.rawValue | request.iova.rawValue & mask)
  }

  @inline(never)
  private func translatePages(
    _ request: DMARequest, _ key: UInt64, gate: PortGate,
    segments: UnsafeMutableBufferPointer<DMASegment>
  ) -> TranslationOutcome {
    var progress = Progress(iova: request.iova.rawValue, left: request.count)
    while true {
      let lookup = state.withLock { state in
        lookUp(request, key, &progress, segments, gate: gate, in: &state)
      }
      switch lookup {
      case .complete:
        return .mapped(segments: progress.segments)
      case .unknownSpace:
        if let fault = fillSpace(request, key, progress) { return .fault(fault) }
      case .beyond, .miss:
        guard let space = progress.space else { return .unclaimed }
        let result =
          lookup == .beyond ? .failure(space.beyondReason) : fill(&progress, request, space)
        switch result {
        case .failure(let reason):
          return .fault(
            request.fault(reason, at: progress.iova, suppressed: space.suppressesFaults))
        case .success(let page):
          Self.append(page, &progress, segments)
          if progress.left == 0 { return .mapped(segments: progress.segments) }
        }
      }
    }
  }

  @inline(__always)
  private static func key(_ requester: RequesterID, _ pasid: PASID?) -> UInt64 {
    let low = pasid.map { UInt64($0.rawValue) &+ 1 } ?? 0
    return UInt64(requester.rawValue) << 32 | low
  }

  @inline(__always)
  private func lookUp(
    _ request: DMARequest, _ key: UInt64, _ progress: inout Progress,
    _ segments: UnsafeMutableBufferPointer<DMASegment>, gate: PortGate, in state: inout State
  ) -> Lookup {
    guard let found = state.spaces.find(key) else {
      progress.generation = state.generation
      return .unknownSpace
    }
    let domain = found.pointee.domain
    gate.use(domain)
    let tag = IotlbTag(domain: domain)
    let lastIOVA = found.pointee.lastIOVA
    let isPassThrough = found.pointee.isPassThrough
    while progress.left > 0 {
      guard progress.iova <= lastIOVA else {
        progress.space = found.pointee
        return .beyond
      }
      if isPassThrough {
        // One page at a time; the end was just checked.
        let page = Translation(
          physical: PhysicalAddress(progress.iova & ~0xfff), shift: 12,
          permissions: [.read, .write])
        Self.append(page, &progress, segments)
        continue
      }
      // A hit that does not allow the access is no answer: the table may allow it by now, or a
      // write has to set the dirty flag (VT-d §6.2.4).
      guard let hit = state.iotlb.lookup(tag, progress.iova),
        hit.permissions.isSuperset(of: request.access)
      else {
        progress.space = found.pointee
        progress.generation = state.generation
        return .miss
      }
      Self.append(hit, &progress, segments)
    }
    return .complete
  }

  /// Notes the memory for the part of the request that is in `page`, where the request stands.
  @inline(__always)
  private static func append(
    _ page: Translation, _ progress: inout Progress,
    _ segments: UnsafeMutableBufferPointer<DMASegment>
  ) {
    let size = UInt64(1) &<< UInt64(truncatingIfNeeded: page.shift)
    let offset = progress.iova & (size &- 1)
    let physical = page.physical.rawValue &+ offset
    let count = min(progress.left, Int(truncatingIfNeeded: size &- offset))
    // SAFETY: at most one segment for each page, and the caller has room for as many.
    if progress.segments > 0,
      segments[progress.segments &- 1].physical.rawValue
        &+ UInt64(truncatingIfNeeded: segments[progress.segments &- 1].count) == physical
    {
      segments[progress.segments &- 1].count &+= count
    } else {
      segments[progress.segments] = DMASegment(
        physical: PhysicalAddress(physical), count: count)
      progress.segments &+= 1
    }
    progress.iova &+= UInt64(truncatingIfNeeded: count)
    progress.left &-= count
  }

  private enum WalkResult {
    case success(Translation)
    case failure(VTdFaultReason)
  }

  /// Walks the page where the request stands, and caches what was found unless an invalidation came
  /// in between.
  @inline(__always)
  private func fill(
    _ progress: inout Progress, _ request: DMARequest, _ space: VTdAddressSpace
  ) -> WalkResult {
    let result = walk(progress.iova, request.access, space)
    if case .success(let page) = result {
      let (iova, generation) = (progress.iova, progress.generation)
      state.withLock { state in
        guard state.generation == generation else { return }
        state.iotlb.insert(IotlbTag(domain: space.domain), iova, page)
      }
    }
    return result
  }

  /// The page walk, without any lock.
  @inline(__always)
  private func walk(
    _ iova: UInt64, _ access: Permissions, _ space: VTdAddressSpace
  ) -> WalkResult {
    guard case .secondStage(let root) = space.translation else {
      return .failure(.pasidEntryInvalid)
    }
    var tables = window
    let outcome = RadixWalker<VTdSecondStage>.walk(
      iova, root, access: access, rules: rules, memory: &tables)
    switch outcome {
    case .leaf(let page):
      let last = page.physical.rawValue &+ (1 &<< UInt64(truncatingIfNeeded: page.shift) &- 1)
      guard
        page.physical.rawValue > Self.interruptRange.upperBound
          || last < Self.interruptRange.lowerBound
      else { return .failure(.outputInInterruptRange) }
      return .success(page)
    case .fault(let fault):
      return .failure(VTdFaultReason(secondStage: fault, topLevel: root.topLevel, access: access))
    }
  }

  /// Reads the configuration tables for a request and caches what they say.
  private func fillSpace(
    _ request: DMARequest, _ key: UInt64, _ progress: Progress
  ) -> FaultRecord? {
    switch findSpace(request, progress.generation) {
    case .failure(let reason, let suppressed):
      return request.fault(
        reason, at: progress.iova, suppressed: suppressed && reason.isQualified)
    case .success(let space):
      state.withLock { state in
        // After an invalidation the tables are read again.
        if state.generation == progress.generation { state.spaces.insert(key, space) }
      }
      return nil
    }
  }
}

extension VTdAddressSpace {
  fileprivate var isPassThrough: Bool {
    if case .passThrough = translation { true } else { false }
  }

  /// Why addresses after `lastIOVA` fault.
  fileprivate var beyondReason: VTdFaultReason {
    switch translation {
    case .secondStage: .beyondSecondStage
    case .passThrough: .beyondHostAddressWidth
    }
  }
}

extension DMARequest {
  fileprivate func fault(
    _ reason: VTdFaultReason, at address: UInt64, suppressed: Bool
  ) -> FaultRecord {
    FaultRecord(
      requester: requester, pasid: pasid, iova: IOVA(address), access: access,
      reason: .vtd(reason), isSuppressed: suppressed)
  }
}
