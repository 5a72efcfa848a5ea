// From a source id and a PASID to an address space: root, context, PASID directory and PASID table
// entry, with the checks and the fault of each (VT-d §3.4.3, §7.1).

internal import Synchronization

extension VTdUnit {
  enum SpaceLookup {
    case success(VTdAddressSpace)
    /// `suppressed`: an entry on the way has FPD set.
    case failure(VTdFaultReason, suppressed: Bool)
  }

  func findSpace(_ request: DMARequest, _ generation: UInt64) -> SpaceLookup {
    let context: ScalableContextEntry
    switch findContext(request.requester, generation) {
    case .success(let entry): context = entry
    case .failure(let reason): return .failure(reason, suppressed: false)
    }
    var suppressed = context.disablesFaults
    guard context.isPresent else { return .failure(.contextEntryAbsent, suppressed: suppressed) }
    guard !context.hasReservedBits(addressBits: memory.addressBits, capabilities) else {
      return .failure(.contextEntryReserved, suppressed: suppressed)
    }
    if request.addressType != .untranslated && !context.allowsDeviceTLB {
      return .failure(.deviceTLBDisabled, suppressed: suppressed)
    }
    if request.pasid != nil && !context.allowsPASID {
      return .failure(.pasidDisabled, suppressed: suppressed)
    }
    let pasid = request.pasid ?? context.ridPASID
    guard UInt64(pasid.rawValue) >> UInt64(context.directoryShift + 6) == 0 else {
      return .failure(
        request.pasid == nil ? .ridPasidInvalid : .pasidTooLarge, suppressed: suppressed)
    }
    let directory = context.directory.rawValue + PASIDDirectoryEntry.offset(of: pasid)
    guard let pointer = window.load(PhysicalAddress(directory)) else {
      return .failure(.pasidDirectoryInaccessible, suppressed: suppressed)
    }
    suppressed = suppressed || PASIDDirectoryEntry.disablesFaults(pointer)
    guard PASIDDirectoryEntry.isPresent(pointer) else {
      return .failure(.pasidDirectoryAbsent, suppressed: suppressed)
    }
    guard pointer & PASIDDirectoryEntry.reserved(addressBits: memory.addressBits) == 0 else {
      return .failure(.pasidDirectoryReserved, suppressed: suppressed)
    }
    let place = PASIDDirectoryEntry.table(pointer).rawValue + PASIDTableEntry.offset(of: pasid)
    guard let words = memory.loadEntry(PhysicalAddress(place), as: InlineArray<8, UInt64>.self)
    else {
      return .failure(.pasidEntryInaccessible, suppressed: suppressed)
    }
    let entry = PASIDTableEntry(words: words)
    suppressed = suppressed || entry.disablesFaults
    return makeSpace(entry, context, request.requester, pasid, suppressed)
  }

  private func makeSpace(
    _ entry: PASIDTableEntry, _ context: ScalableContextEntry, _ requester: RequesterID,
    _ pasid: PASID, _ suppressed: Bool
  ) -> SpaceLookup {
    guard entry.isPresent else { return .failure(.pasidEntryAbsent, suppressed: suppressed) }
    guard !entry.hasReservedBits(addressBits: memory.addressBits, capabilities) else {
      return .failure(.pasidEntryReserved, suppressed: suppressed)
    }
    var entry = entry
    if !capabilities.secondStageFlags { entry.updatesSecondStageFlags = false }
    guard let type = entry.type, isValid(entry, type) else {
      return .failure(.pasidEntryInvalid, suppressed: suppressed)
    }
    let lastIntermediate = lastAddress(entry)
    let lastIOVA =
      switch type {
      case .firstStage, .nested: UInt64.max
      case .secondStage: lastIntermediate
      case .passThrough: UInt64(1) << UInt64(memory.addressBits) - 1
      }
    return .success(
      VTdAddressSpace(
        entry, type, requester: requester, pasid: pasid, lastIOVA: lastIOVA,
        lastIntermediate: lastIntermediate, suppressesFaults: suppressed,
        allowsDeviceTLB: context.allowsDeviceTLB))
  }

  /// SPT.4: whether the unit has what the entry asks for.
  private func isValid(
    _ entry: PASIDTableEntry, _ type: PASIDTableEntry.TranslationType
  ) -> Bool {
    let hasSecondStage =
      capabilities.secondStage && capabilities.secondStageLevels.contains(entry.levels)
    let hasFirstStage =
      switch entry.firstStageLevels {
      case 4: capabilities.firstStage
      case 5: capabilities.firstStage && capabilities.fiveLevelFirstStage
      default: false
      }
    return switch type {
    case .firstStage: hasFirstStage
    case .secondStage: hasSecondStage
    case .nested: capabilities.nested && hasFirstStage && hasSecondStage
    case .passThrough: capabilities.passThrough
    }
  }

  private func lastAddress(_ entry: PASIDTableEntry) -> UInt64 {
    let levels = min(max(entry.levels, 2), 5)
    let width = min(VTdSecondStage.tableShift(levels - 1), capabilities.maximumGuestAddressWidth)
    return 1 << UInt64(width) - 1
  }

  func findContext(
    _ requester: RequesterID, _ generation: UInt64
  ) -> Result<ScalableContextEntry, VTdFaultReason> {
    let key = UInt64(requester.rawValue)
    let (cached, rootTable) = state.withLock { ($0.contexts.find(key)?.pointee, $0.rootTable) }
    if let cached { return .success(cached) }
    guard let rootTable else { return .failure(.invalidRootTable) }
    let root = rootTable.rawValue + ScalableRootEntry.word(of: requester)
    guard let word = window.load(PhysicalAddress(root)) else {
      return .failure(.rootEntryInaccessible)
    }
    guard ScalableRootEntry.isPresent(word) else { return .failure(.rootEntryAbsent) }
    guard word & ScalableRootEntry.reserved(addressBits: memory.addressBits) == 0 else {
      return .failure(.rootEntryReserved)
    }
    let place =
      ScalableRootEntry.contextTable(word).rawValue + ScalableContextEntry.offset(of: requester)
    guard let words = memory.loadEntry(PhysicalAddress(place), as: InlineArray<4, UInt64>.self)
    else {
      return .failure(.contextEntryInaccessible)
    }
    let entry = ScalableContextEntry(words: words)
    // Without caching mode only present entries are cached.
    if entry.isPresent {
      state.withLock { state in
        if state.generation == generation { state.contexts.insert(key, entry) }
      }
    }
    return .success(entry)
  }
}
