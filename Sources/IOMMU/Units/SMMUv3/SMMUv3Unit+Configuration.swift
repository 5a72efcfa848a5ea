// From a stream and a substream to a stream context: stream table entry and context descriptor, with the
// checks and the event of each, in the order of §7.3.22.

internal import Synchronization

extension SMMUv3Unit {
  enum ContextLookup {
    case success(StreamContext)
    /// With what the stream table entry says of faults like this one.
    case failure(SMMUv3Event, StreamContext.FaultBehaviour)

    static func failure(_ event: SMMUv3Event) -> Self { .failure(event, .init()) }
  }

  /// The context is in the cache afterwards, unless an invalidation came in between.
  func findContext(_ request: DMARequest, _ generation: UInt64) -> ContextLookup {
    let lookup = readContext(request, generation)
    if case .success(let context) = lookup {
      state.withLock { state in
        if state.generation == generation { state.contexts.insert(request.spaceKey, context) }
      }
    }
    return lookup
  }

  /// The same for a transaction that needs no translation: the context is not kept.
  func readContext(_ request: DMARequest, _ generation: UInt64) -> ContextLookup {
    let entry: StreamTableEntry
    switch findStream(request.requester, generation) {
    case .success(let found): entry = found
    case .failure(let event): return .failure(event)
    }
    switch entry.configuration {
    case .abort:
      return .success(StreamContext(.abort, stream: request.requester))
    case .bypass, .stage2:
      // §5.2, S1Fmt: without stage 1 there are no substreams.
      guard request.pasid == nil else { return .failure(SMMUv3Event(.badSubstreamID)) }
      return .success(contextWithoutStage1(entry, request.requester))
    case .stage1, .nested:
      return findDescriptor(entry, request)
    }
  }

  private func contextWithoutStage1(
    _ entry: StreamTableEntry, _ stream: RequesterID
  ) -> StreamContext {
    var context = StreamContext(entry.hasStage2 ? .stage2 : .bypass, stream: stream)
    if entry.hasStage2 { setStage2(of: &context, entry) }
    context.allowsATS = allowsATS(entry)
    return context
  }

  /// A stream that bypasses both stages has no translations to ask for (§5.2, EATS).
  private func allowsATS(_ entry: StreamTableEntry) -> Bool {
    capabilities.ats && entry.ats == 1 && entry.configuration != .bypass
  }

  private func setStage2(of context: inout StreamContext, _ entry: StreamTableEntry) {
    context.vmid = entry.vmid
    context.stage2 = stage2Table(entry)
    context.stage2Faults = entry.stage2Faults
  }

  // MARK: Stream table (§3.3.2)

  private func findStream(
    _ stream: RequesterID, _ generation: UInt64
  ) -> Result<StreamTableEntry, SMMUv3Event> {
    let key = UInt64(stream.rawValue)
    let (cached, table) = state.withLock { ($0.streams.find(key)?.pointee, $0.streamTable) }
    if let cached { return .success(cached) }
    guard let table else { return .failure(SMMUv3Event(.aborted)) }
    let place: PhysicalAddress
    switch table.place(of: stream, window) {
    case .success(let found): place = found
    case .failure(let event): return .failure(event)
    }
    guard let words = memory.loadEntry(place, as: InlineArray<8, UInt64>.self) else {
      return .failure(.fetch(.streamFetchFailed, place))
    }
    let entry = StreamTableEntry(words: words)
    guard !isIllegal(entry) else { return .failure(SMMUv3Event(.badStreamEntry)) }
    state.withLock { state in
      if state.generation == generation { state.streams.insert(key, entry) }
    }
    return .success(entry)
  }

  // MARK: Context descriptors (§3.3.2, §5.2 S1DSS)

  private func findDescriptor(
    _ entry: StreamTableEntry, _ request: DMARequest
  ) -> ContextLookup {
    let hasSubstreams = entry.descriptorBits > 0 && capabilities.substreamBits > 0
    if let pasid = request.pasid {
      guard hasSubstreams, UInt64(pasid.rawValue) >> UInt64(entry.descriptorBits) == 0 else {
        return .failure(SMMUv3Event(.badSubstreamID))
      }
      if entry.defaultSubstream == .substream0 && pasid.rawValue == 0 {
        return .failure(SMMUv3Event(.streamDisabled))
      }
    } else if hasSubstreams {
      switch entry.defaultSubstream {
      case .terminate: return .failure(SMMUv3Event(.streamDisabled))
      case .bypass: return .success(contextWithoutStage1(entry, request.requester))
      case .substream0: break
      }
    }
    let index = request.pasid?.rawValue ?? 0
    let descriptor: ContextDescriptor
    switch fetchDescriptor(index, of: entry, hasSubstreams: hasSubstreams) {
    case .success(let found): descriptor = found
    case .failure(let event): return .failure(event, event.isStage2 ? entry.stage2Faults : .init())
    }
    guard !isIllegal(descriptor, in: entry) else { return .failure(SMMUv3Event(.badContext)) }
    var context = StreamContext(entry.hasStage2 ? .nested : .stage1, stream: request.requester)
    context.descriptor = index
    context.allowsATS = allowsATS(entry)
    context.vmid = entry.vmid
    if entry.hasStage2 { setStage2(of: &context, entry) }
    setStage1(of: &context, descriptor)
    return .success(context)
  }

  private func setStage1(of context: inout StreamContext, _ descriptor: ContextDescriptor) {
    context.asid = descriptor.asid
    context.regime = regime(descriptor)
    context.updatesDirtyState = descriptor.updatesDirtyState && descriptor.updatesAccessFlag
    context.stage1Faults = .init(
      records: descriptor.recordsFaults, stalls: descriptor.stallsFaults)
  }

  private func fetchDescriptor(
    _ index: UInt32, of entry: StreamTableEntry, hasSubstreams: Bool
  ) -> Result<ContextDescriptor, SMMUv3Event> {
    var place = entry.descriptors
    if hasSubstreams {
      let bits = entry.descriptorBits
      let format = entry.descriptorTable
      if format == .linear {
        place &= ~(ContextDescriptor.size << UInt64(bits) - 1)
        place += UInt64(index) * ContextDescriptor.size
      } else {
        let upperBits = max(0, bits - format.leafBits)
        let tableSize = max(64, ContextTableDescriptor.size << UInt64(upperBits))
        let upper = UInt64(index) >> UInt64(format.leafBits)
        let upperPlace = place & ~(tableSize - 1) + upper * ContextTableDescriptor.size
        let words: InlineArray<1, UInt64>
        switch fetch(upperPlace, of: entry, as: InlineArray<1, UInt64>.self) {
        case .success(let found): words = found
        case .failure(let event): return .failure(event)
        }
        let table = ContextTableDescriptor.table(words[0])
        guard ContextTableDescriptor.isValid(words[0]), isReachable(table, of: entry) else {
          return .failure(SMMUv3Event(.badSubstreamID))
        }
        let lower = UInt64(index) & (1 << UInt64(format.leafBits) - 1)
        let leafSize = ContextDescriptor.size << UInt64(format.leafBits)
        place = table & ~(leafSize - 1) + lower * ContextDescriptor.size
      }
    }
    return fetch(place, of: entry, as: InlineArray<8, UInt64>.self).map(ContextDescriptor.init)
  }

  /// Reads a structure of a stream: through stage 2 where there is one.
  private func fetch<let Count: Int>(
    _ address: UInt64, of entry: StreamTableEntry, as type: InlineArray<Count, UInt64>.Type
  ) -> Result<InlineArray<Count, UInt64>, SMMUv3Event> {
    var physical = PhysicalAddress(address)
    if let table = stage2Table(entry) {
      switch translateIntermediate(address, by: table) {
      case .success(let place): physical = place
      case .failure(let event): return .failure(event)
      }
    }
    if let words = memory.loadEntry(physical, as: type) { return .success(words) }
    // A guest's memory may be in another process.
    var words = InlineArray<Count, UInt64>(repeating: 0)
    for index in words.indices {
      let place = PhysicalAddress(physical.rawValue + UInt64(index) * 8)
      guard let word = memory.word(at: place) else {
        return .failure(.fetch(.contextFetchFailed, physical))
      }
      words[index] = word
    }
    return .success(words)
  }
}

extension StreamTableEntry {
  fileprivate var stage2Faults: StreamContext.FaultBehaviour {
    .init(records: recordsFaults, stalls: stallsFaults)
  }
}

extension SMMUv3Event {
  static func fetch(_ kind: Kind, _ place: PhysicalAddress) -> SMMUv3Event {
    var event = SMMUv3Event(kind)
    event.fetchAddress = place.rawValue
    return event
  }
}

extension SMMUv3Unit.StreamTable {
  /// Where the entry of `stream` is. §7.3.3: the ways in which there is none.
  func place(
    of stream: RequesterID, _ window: FrameWindow
  ) -> Result<PhysicalAddress, SMMUv3Event> {
    let stream = UInt64(stream.rawValue)
    guard stream >> UInt64(sizeBits) == 0 else { return .failure(SMMUv3Event(.badStreamID)) }
    guard let split else {
      return .success(PhysicalAddress(base.rawValue + stream * StreamTableEntry.size))
    }
    let upper = PhysicalAddress(
      base.rawValue + stream >> UInt64(split) * StreamTableDescriptor.size)
    guard let descriptor = window.load(upper) else {
      return .failure(.fetch(.streamFetchFailed, upper))
    }
    let span = StreamTableDescriptor.span(descriptor)
    let index = stream & (1 << UInt64(split) - 1)
    guard (1...min(split + 1, 11)).contains(span), index >> UInt64(span - 1) == 0 else {
      return .failure(SMMUv3Event(.badStreamID))
    }
    let table = StreamTableDescriptor.table(descriptor)
    return .success(PhysicalAddress(table.rawValue + index * StreamTableEntry.size))
  }
}
