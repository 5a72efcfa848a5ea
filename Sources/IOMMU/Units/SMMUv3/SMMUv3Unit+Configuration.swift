// SPDX-License-Identifier: Apache-2.0

// From StreamID and SubstreamID to an address space: stream table entry and context descriptor,
// with the checks of each and the event of each check, in the order of §7.3.22.

internal import Synchronization

extension SMMUv3Unit {
  enum AddressSpaceResult {
    case success(SMMUv3AddressSpace)
    /// The fault configuration is that of the stream table entry if it applies to the event.
    case fault(SMMUv3Event, SMMUv3AddressSpace.FaultConfiguration)

    static func fault(_ event: SMMUv3Event) -> Self { .fault(event, .init()) }
  }

  /// Resolves the address space of a transaction, and caches it unless an invalidation has happened
  /// since `generation`.
  func fillAddressSpace(_ request: DMARequest, _ generation: UInt64) -> AddressSpaceResult {
    let result = resolveAddressSpace(request, generation)
    if case .success(let space) = result {
      state.withLock { state in
        if state.generation == generation {
          state.addressSpaces.insert(request.addressSpaceKey, space)
        }
      }
    }
    return result
  }

  /// Reads the stream table entry and the context descriptor for a transaction. The stream table
  /// entry may come from the cache. The address space is not cached.
  func resolveAddressSpace(_ request: DMARequest, _ generation: UInt64) -> AddressSpaceResult {
    let entry: StreamTableEntry
    switch streamTableEntry(of: request.requester, generation) {
    case .success(let found): entry = found
    case .failure(let event): return .fault(event)
    }
    switch entry.configuration {
    case .abort:
      return .success(SMMUv3AddressSpace(.abort, requester: request.requester))
    case .bypass, .stage2:
      // §5.2, S1Fmt: without stage 1 there are no substreams.
      guard request.pasid == nil else { return .fault(SMMUv3Event(.badSubstreamID)) }
      return .success(addressSpaceWithoutStage1(entry, request.requester))
    case .stage1, .nested:
      return resolveStage1(entry, request)
    }
  }

  // MARK: Stream table (§3.3.2)

  /// Returns the stream table entry of a stream, from the cache or from memory.
  private func streamTableEntry(
    of requester: RequesterID, _ generation: UInt64
  ) -> Result<StreamTableEntry, SMMUv3Event> {
    let key = UInt64(requester.rawValue)
    let (cached, table) = state.withLock {
      ($0.streamTableEntries.find(key)?.pointee, $0.streamTable)
    }
    if let cached { return .success(cached) }
    guard let table else { return .failure(SMMUv3Event(.aborted)) }
    let address: PhysicalAddress
    switch table.entryAddress(of: StreamID(requester), window) {
    case .success(let found): address = found
    case .failure(let event): return .failure(event)
    }
    guard let words = memory.loadEntry(address, as: InlineArray<8, UInt64>.self) else {
      return .failure(.fetch(.streamFetchFailed, address))
    }
    let entry = StreamTableEntry(words: words)
    guard !isIllegal(entry) else { return .failure(SMMUv3Event(.badStreamEntry)) }
    state.withLock { state in
      if state.generation == generation { state.streamTableEntries.insert(key, entry) }
    }
    return .success(entry)
  }

  private func addressSpaceWithoutStage1(
    _ entry: StreamTableEntry, _ requester: RequesterID
  ) -> SMMUv3AddressSpace {
    var space = SMMUv3AddressSpace(entry.hasStage2 ? .stage2 : .bypass, requester: requester)
    if entry.hasStage2 { setStage2(of: &space, entry) }
    space.allowsATS = allowsATS(entry)
    return space
  }

  private func setStage2(of space: inout SMMUv3AddressSpace, _ entry: StreamTableEntry) {
    space.vmid = entry.vmid
    space.stage2 = stage2Table(entry)
    space.stage2Faults = entry.stage2Faults
  }

  /// A stream that bypasses both stages has no translations to request (§5.2, EATS).
  private func allowsATS(_ entry: StreamTableEntry) -> Bool {
    capabilities.ats && entry.ats == 1 && entry.configuration != .bypass
  }

  // MARK: Context descriptors (§3.3.2, §5.2 S1DSS)

  private func resolveStage1(
    _ entry: StreamTableEntry, _ request: DMARequest
  ) -> AddressSpaceResult {
    let hasSubstreams = entry.descriptorBits > 0 && capabilities.substreamBits > 0
    if let pasid = request.pasid {
      guard hasSubstreams, UInt64(pasid.rawValue) >> UInt64(entry.descriptorBits) == 0 else {
        return .fault(SMMUv3Event(.badSubstreamID))
      }
      if entry.defaultSubstream == .substream0 && pasid.rawValue == 0 {
        return .fault(SMMUv3Event(.streamDisabled))
      }
    } else if hasSubstreams {
      switch entry.defaultSubstream {
      case .terminate: return .fault(SMMUv3Event(.streamDisabled))
      case .bypass: return .success(addressSpaceWithoutStage1(entry, request.requester))
      case .substream0: break
      }
    }
    let index = request.pasid?.rawValue ?? 0
    let descriptor: ContextDescriptor
    switch contextDescriptor(index, of: entry, hasSubstreams: hasSubstreams) {
    case .success(let found): descriptor = found
    case .failure(let event): return .fault(event, event.isStage2 ? entry.stage2Faults : .init())
    }
    guard !isIllegal(descriptor, in: entry) else { return .fault(SMMUv3Event(.badContext)) }
    var space = SMMUv3AddressSpace(
      entry.hasStage2 ? .nested : .stage1, requester: request.requester)
    space.descriptor = index
    space.allowsATS = allowsATS(entry)
    space.vmid = entry.vmid
    if entry.hasStage2 { setStage2(of: &space, entry) }
    setStage1(of: &space, descriptor)
    return .success(space)
  }

  private func setStage1(of space: inout SMMUv3AddressSpace, _ descriptor: ContextDescriptor) {
    space.asid = descriptor.asid
    space.regime = regime(descriptor)
    space.updatesDirtyState = descriptor.updatesDirtyState && descriptor.updatesAccessFlag
    space.stage1Faults = .init(
      records: descriptor.recordsFaults, stalls: descriptor.stallsFaults)
  }

  /// Returns the context descriptor at `index`, from a single descriptor, a linear table or a
  /// two-level table.
  private func contextDescriptor(
    _ index: UInt32, of entry: StreamTableEntry, hasSubstreams: Bool
  ) -> Result<ContextDescriptor, SMMUv3Event> {
    var address = entry.descriptors
    if hasSubstreams {
      let bits = entry.descriptorBits
      let format = entry.descriptorTable
      if format == .linear {
        address &= ~(ContextDescriptor.size << UInt64(bits) - 1)
        address += UInt64(index) * ContextDescriptor.size
      } else {
        let upperBits = max(0, bits - format.leafBits)
        let tableSize = max(64, ContextTableDescriptor.size << UInt64(upperBits))
        let upper = UInt64(index) >> UInt64(format.leafBits)
        let upperAddress = address & ~(tableSize - 1) + upper * ContextTableDescriptor.size
        let words: InlineArray<1, UInt64>
        switch fetch(upperAddress, of: entry, as: InlineArray<1, UInt64>.self) {
        case .success(let found): words = found
        case .failure(let event): return .failure(event)
        }
        let table = ContextTableDescriptor.table(words[0])
        guard ContextTableDescriptor.isValid(words[0]), isReachable(table, of: entry) else {
          return .failure(SMMUv3Event(.badSubstreamID))
        }
        let lower = UInt64(index) & (1 << UInt64(format.leafBits) - 1)
        let leafSize = ContextDescriptor.size << UInt64(format.leafBits)
        address = table & ~(leafSize - 1) + lower * ContextDescriptor.size
      }
    }
    return fetch(address, of: entry, as: InlineArray<8, UInt64>.self).map(ContextDescriptor.init)
  }

  /// Reads a structure of a stream, through stage 2 if the stream has one.
  private func fetch<let Count: Int>(
    _ address: UInt64, of entry: StreamTableEntry, as type: InlineArray<Count, UInt64>.Type
  ) -> Result<InlineArray<Count, UInt64>, SMMUv3Event> {
    var physical = PhysicalAddress(address)
    if let table = stage2Table(entry) {
      switch translateIntermediate(address, by: table) {
      case .success(let translated): physical = translated
      case .failure(let event): return .failure(event)
      }
    }
    if let words = memory.loadEntry(physical, as: type) { return .success(words) }
    // Guest memory may belong to another process. It is then read word by word.
    var words = InlineArray<Count, UInt64>(repeating: 0)
    for index in words.indices {
      let wordAddress = PhysicalAddress(physical.rawValue + UInt64(index) * 8)
      guard let word = memory.word(at: wordAddress) else {
        return .failure(.fetch(.contextFetchFailed, physical))
      }
      words[index] = word
    }
    return .success(words)
  }
}

extension StreamTableEntry {
  fileprivate var stage2Faults: SMMUv3AddressSpace.FaultConfiguration {
    .init(records: recordsFaults, stalls: stallsFaults)
  }
}

extension SMMUv3Event {
  /// Returns the event of a structure that could not be read at `address`.
  static func fetch(_ kind: Kind, _ address: PhysicalAddress) -> SMMUv3Event {
    var event = SMMUv3Event(kind)
    event.fetchAddress = address.rawValue
    return event
  }
}

extension SMMUv3Unit.StreamTable {
  /// Returns the address of the stream table entry of `stream`, or the event of a StreamID without
  /// one (§7.3.3).
  fileprivate func entryAddress(
    of stream: StreamID, _ window: FrameWindow
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
