// SPDX-License-Identifier: Apache-2.0

// From source-id and PASID to an address space (VT-d §3.4.3): root entry, context entry, PASID
// directory entry and PASID table entry, with the checks of each and the fault of each check
// (§7.1).

internal import Synchronization

extension VTdUnit {
  enum AddressSpaceResult {
    case success(VTdAddressSpace)
    /// - Parameter isSuppressed: whether an entry that was read has FPD set.
    case fault(VTdFaultReason, isSuppressed: Bool)
  }

  /// Reads the configuration entries for a request. The context entry may come from the context
  /// cache.
  /// - Parameter generation: the generation of the caches before the call.
  func resolveAddressSpace(_ request: DMARequest, _ generation: UInt64) -> AddressSpaceResult {
    // Root entry and context entry.
    let context: ScalableContextEntry
    switch contextEntry(of: request.requester, generation) {
    case .success(let entry): context = entry
    case .failure(let reason): return .fault(reason, isSuppressed: false)
    }
    var isSuppressed = context.disablesFaults
    if let reason = fault(of: context, for: request) {
      return .fault(reason, isSuppressed: isSuppressed)
    }
    // PASID directory entry.
    let pasid = request.pasid ?? context.ridPASID
    let directoryAddress = context.directory.rawValue + PASIDDirectoryEntry.offset(of: pasid)
    guard let directoryEntry = window.load(PhysicalAddress(directoryAddress)) else {
      return .fault(.pasidDirectoryInaccessible, isSuppressed: isSuppressed)
    }
    isSuppressed = isSuppressed || PASIDDirectoryEntry.disablesFaults(directoryEntry)
    guard PASIDDirectoryEntry.isPresent(directoryEntry) else {
      return .fault(.pasidDirectoryAbsent, isSuppressed: isSuppressed)
    }
    guard directoryEntry & PASIDDirectoryEntry.reserved(addressBits: memory.addressBits) == 0 else {
      return .fault(.pasidDirectoryReserved, isSuppressed: isSuppressed)
    }
    // PASID table entry.
    let entryAddress =
      PASIDDirectoryEntry.table(directoryEntry).rawValue + PASIDTableEntry.offset(of: pasid)
    guard
      let words = memory.loadEntry(PhysicalAddress(entryAddress), as: InlineArray<8, UInt64>.self)
    else {
      return .fault(.pasidEntryInaccessible, isSuppressed: isSuppressed)
    }
    let entry = PASIDTableEntry(words: words)
    isSuppressed = isSuppressed || entry.disablesFaults
    return makeAddressSpace(entry, context, request.requester, pasid, isSuppressed)
  }

  // MARK: Root entry and context entry (§9.2, §9.4)

  /// Returns the context entry of a function, from the context cache or from memory.
  func contextEntry(
    of requester: RequesterID, _ generation: UInt64
  ) -> Result<ScalableContextEntry, VTdFaultReason> {
    let key = UInt64(requester.rawValue)
    let (cached, rootTable) = state.withLock {
      ($0.contextEntries.find(key)?.pointee, $0.rootTable)
    }
    if let cached { return .success(cached) }
    guard let rootTable else { return .failure(.invalidRootTable) }
    let rootAddress = rootTable.rawValue + ScalableRootEntry.word(of: requester)
    guard let rootEntry = window.load(PhysicalAddress(rootAddress)) else {
      return .failure(.rootEntryInaccessible)
    }
    guard ScalableRootEntry.isPresent(rootEntry) else { return .failure(.rootEntryAbsent) }
    guard rootEntry & ScalableRootEntry.reserved(addressBits: memory.addressBits) == 0 else {
      return .failure(.rootEntryReserved)
    }
    let entryAddress =
      ScalableRootEntry.contextTable(rootEntry).rawValue
      + ScalableContextEntry.offset(of: requester)
    guard
      let words = memory.loadEntry(PhysicalAddress(entryAddress), as: InlineArray<4, UInt64>.self)
    else {
      return .failure(.contextEntryInaccessible)
    }
    let entry = ScalableContextEntry(words: words)
    // Without caching mode a unit caches present entries only.
    if entry.isPresent {
      state.withLock { state in
        if state.generation == generation { state.contextEntries.insert(key, entry) }
      }
    }
    return .success(entry)
  }

  /// Returns the fault of a request that the context entry does not allow.
  private func fault(
    of context: ScalableContextEntry, for request: DMARequest
  ) -> VTdFaultReason? {
    guard context.isPresent else { return .contextEntryAbsent }
    guard !context.hasReservedBits(addressBits: memory.addressBits, capabilities) else {
      return .contextEntryReserved
    }
    if request.addressType != .untranslated && !context.allowsDeviceTLB {
      return .deviceTLBDisabled
    }
    if request.pasid != nil && !context.allowsPASID { return .pasidDisabled }
    let pasid = request.pasid ?? context.ridPASID
    guard UInt64(pasid.rawValue) >> UInt64(context.directoryShift + 6) == 0 else {
      return request.pasid == nil ? .ridPasidInvalid : .pasidTooLarge
    }
    return nil
  }

  // MARK: PASID table entry (§9.6)

  private func makeAddressSpace(
    _ entry: PASIDTableEntry, _ context: ScalableContextEntry, _ requester: RequesterID,
    _ pasid: PASID, _ isSuppressed: Bool
  ) -> AddressSpaceResult {
    guard entry.isPresent else { return .fault(.pasidEntryAbsent, isSuppressed: isSuppressed) }
    guard !entry.hasReservedBits(addressBits: memory.addressBits, capabilities) else {
      return .fault(.pasidEntryReserved, isSuppressed: isSuppressed)
    }
    var entry = entry
    if !capabilities.secondStageFlags { entry.updatesSecondStageFlags = false }
    guard let type = entry.type, isSupported(entry, type) else {
      return .fault(.pasidEntryInvalid, isSuppressed: isSuppressed)
    }
    let lastIntermediate = lastSecondStageAddress(entry)
    let lastIOVA =
      switch type {
      case .firstStage, .nested: UInt64.max
      case .secondStage: lastIntermediate
      case .passThrough: UInt64(1) << UInt64(memory.addressBits) - 1
      }
    return .success(
      VTdAddressSpace(
        entry, type, requester: requester, pasid: pasid, lastIOVA: IOVA(lastIOVA),
        lastIntermediate: lastIntermediate, suppressesFaults: isSuppressed,
        allowsDeviceTLB: context.allowsDeviceTLB))
  }

  /// SPT.4: whether the unit supports the translation type of the entry and its numbers of levels.
  private func isSupported(
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

  private func lastSecondStageAddress(_ entry: PASIDTableEntry) -> UInt64 {
    let levels = min(max(entry.levels, 2), 5)
    let width = min(VTdSecondStage.tableShift(levels - 1), capabilities.maximumGuestAddressWidth)
    return 1 << UInt64(width) - 1
  }
}
