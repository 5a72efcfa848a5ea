// SPDX-License-Identifier: Apache-2.0

// The page walks of an address space: stage 1, stage 1 nested on stage 2, and stage 2. A walk holds
// no lock, and ends with a page or with an event (§7.3, §7.3.22).

/// The result of a walk, as the TLB caches it.
struct SMMUv3WalkResult {
  let page: Translation
  let leaf: SMMUv3LeafAttributes

  @inline(__always)
  init(_ page: Translation, _ leaf: SMMUv3LeafAttributes) {
    self.page = page
    self.leaf = leaf
  }
}

extension SMMUv3Unit {
  /// Walks the tables of an address space.
  /// - Parameter address: the result of ``SMMUv3AddressSpace/effectiveAddress(_:)``.
  @inline(__always)
  func walk(
    _ address: IOVA, _ access: Permissions, _ space: SMMUv3AddressSpace
  ) -> Result<SMMUv3WalkResult, SMMUv3Event> {
    switch space.translationType {
    case .stage1: walkStage1(address, access, space)
    case .nested: walkNested(address, access, space)
    case .stage2: walkStage2(address, access, space)
    case .abort, .bypass: .failure(SMMUv3Event(.aborted))
    }
  }

  @inline(never)
  private func walkStage1(
    _ address: IOVA, _ access: Permissions, _ space: SMMUv3AddressSpace
  ) -> Result<SMMUv3WalkResult, SMMUv3Event> {
    guard let (table, input) = space.regime.table(for: address.rawValue) else {
      return .failure(.stage1(.translation))
    }
    var lastEntry = LastEntryRead()
    let outcome = window.observed(by: &lastEntry) { tables in
      VMSAv8.walk(stage1: table, input, access: access, memory: &tables)
    }
    switch outcome {
    case .leaf(let page):
      return .success(SMMUv3WalkResult(page, SMMUv3LeafAttributes(page, table, lastEntry.entry)))
    case .fault(let fault):
      return .failure(.stage1(fault, at: lastEntry.address))
    }
  }

  @inline(never)
  private func walkNested(
    _ address: IOVA, _ access: Permissions, _ space: SMMUv3AddressSpace
  ) -> Result<SMMUv3WalkResult, SMMUv3Event> {
    guard let (table, input) = space.regime.table(for: address.rawValue),
      let stage2 = space.stage2
    else { return .failure(.stage1(.translation)) }
    var (lastEntry1, lastEntry2) = (LastEntryRead(), LastEntryRead())
    let outcome = GuestTableMemory(memory).observed(by: &lastEntry1) { guest in
      window.observed(by: &lastEntry2) { tables in
        VMSAv8.walk(
          nested: table, in: stage2, input, access: access, guest: guest, tables: tables)
      }
    }
    switch outcome {
    case .leaf(let page, let first):
      return .success(SMMUv3WalkResult(page, SMMUv3LeafAttributes(first, table, lastEntry1.entry)))
    case .fault(.first(let fault)):
      return .failure(.stage1(fault, at: lastEntry1.address))
    case .fault(.second(let fault, let address, let use)):
      return .failure(.stage2(fault, at: lastEntry2.address, of: address, use))
    }
  }

  @inline(never)
  private func walkStage2(
    _ address: IOVA, _ access: Permissions, _ space: SMMUv3AddressSpace
  ) -> Result<SMMUv3WalkResult, SMMUv3Event> {
    // §3.4: the bypassed stage 1 checks the size of its output address, which is the input address.
    guard address.rawValue >> UInt64(capabilities.intermediateAddressBits) == 0 else {
      return .failure(.stage1(.addressSize))
    }
    guard let table = space.stage2 else { return .failure(SMMUv3Event(.aborted)) }
    return walkStage2(address.rawValue, access, by: table).map {
      SMMUv3WalkResult($0, SMMUv3LeafAttributes($0, table))
    }
  }

  /// Translates the intermediate address of a structure that the unit is to read.
  func translateIntermediate(
    _ address: UInt64, by table: VMSAv8Table
  ) -> Result<PhysicalAddress, SMMUv3Event> {
    walkStage2(address, .read, by: table).map { $0.address(of: address) }.mapError { event in
      var event = event
      event.faultClass = .contextFetch
      return event
    }
  }

  @inline(__always)
  private func walkStage2(
    _ address: UInt64, _ access: Permissions, by table: VMSAv8Table
  ) -> Result<Translation, SMMUv3Event> {
    var lastEntry = LastEntryRead()
    let outcome = window.observed(by: &lastEntry) { tables in
      VMSAv8.walk(stage2: table, address, access: access, memory: &tables)
    }
    switch outcome {
    case .leaf(let page): return .success(page)
    case .fault(let fault):
      return .failure(.stage2(fault, at: lastEntry.address, of: address, .data))
    }
  }
}

extension SMMUv3LeafAttributes {
  private static let notGlobal: UInt64 = 1 << 11

  /// The attributes of a stage 1 leaf.
  init(_ page: Translation, _ table: VMSAv8Table, _ descriptor: UInt64) {
    self.init(
      blockShift: page.shift, granuleShift: table.granule.shift,
      isGlobal: descriptor & Self.notGlobal == 0, isReadOnly: !page.permissions.contains(.write))
  }

  /// The attributes of a leaf of stage 2 alone.
  init(_ page: Translation, _ table: VMSAv8Table) {
    self.init(
      blockShift: page.shift, granuleShift: table.granule.shift, isGlobal: false,
      isReadOnly: false)
  }
}
