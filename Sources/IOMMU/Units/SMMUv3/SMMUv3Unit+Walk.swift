// Page walks of a stream context, and what of a walk's end becomes an event (§7.3, §7.3.22).

/// What a walk found, as the TLB keeps it.
struct SMMUv3Page {
  let page: Translation
  let leaf: CachedLeaf

  @inline(__always)
  init(_ page: Translation, _ leaf: CachedLeaf) {
    self.page = page
    self.leaf = leaf
  }
}

extension SMMUv3Unit {
  /// The page walk, without any lock.
  /// - Parameter address: as ``StreamContext/effective(_:)`` has it.
  @inline(__always)
  func walk(
    _ address: UInt64, _ access: Permissions, _ context: StreamContext
  ) -> Result<SMMUv3Page, SMMUv3Event> {
    switch context.path {
    case .stage1: walkStage1(address, access, context)
    case .nested: walkNested(address, access, context)
    case .stage2: walkStage2(address, access, context)
    case .abort, .bypass: .failure(SMMUv3Event(.aborted))
    }
  }

  @inline(never)
  private func walkStage1(
    _ address: UInt64, _ access: Permissions, _ context: StreamContext
  ) -> Result<SMMUv3Page, SMMUv3Event> {
    guard let (table, input) = context.regime.table(for: address) else {
      return .failure(.stage1(.translation))
    }
    var trace = LastEntryRead()
    let outcome = window.observed(by: &trace) { tables in
      VMSAv8.walk(stage1: table, input, access: access, memory: &tables)
    }
    switch outcome {
    case .leaf(let page):
      return .success(SMMUv3Page(page, CachedLeaf(page, table, trace.entry)))
    case .fault(let fault):
      return .failure(.stage1(fault, at: trace.address))
    }
  }

  @inline(never)
  private func walkNested(
    _ address: UInt64, _ access: Permissions, _ context: StreamContext
  ) -> Result<SMMUv3Page, SMMUv3Event> {
    guard let (table, input) = context.regime.table(for: address), let stage2 = context.stage2
    else { return .failure(.stage1(.translation)) }
    var (trace1, trace2) = (LastEntryRead(), LastEntryRead())
    let outcome = GuestTableMemory(memory).observed(by: &trace1) { guest in
      window.observed(by: &trace2) { tables in
        VMSAv8.walk(
          nested: table, in: stage2, input, access: access, guest: guest, tables: tables)
      }
    }
    switch outcome {
    case .leaf(let page, let first):
      return .success(SMMUv3Page(page, CachedLeaf(first, table, trace1.entry)))
    case .fault(.first(let fault)):
      return .failure(.stage1(fault, at: trace1.address))
    case .fault(.second(let fault, let address, let use)):
      return .failure(.stage2(fault, at: trace2.address, of: address, use))
    }
  }

  @inline(never)
  private func walkStage2(
    _ address: UInt64, _ access: Permissions, _ context: StreamContext
  ) -> Result<SMMUv3Page, SMMUv3Event> {
    // §3.4: stage 1, which is bypassed, checks what its output would be.
    guard address >> UInt64(capabilities.intermediateAddressBits) == 0 else {
      return .failure(.stage1(.addressSize))
    }
    guard let table = context.stage2 else { return .failure(SMMUv3Event(.aborted)) }
    return walk(address, access, by: table).map { SMMUv3Page($0, CachedLeaf($0, table)) }
  }

  /// Where the structure of a stream that is at an intermediate address is, to be read.
  func translateIntermediate(
    _ address: UInt64, by table: VMSAv8Table
  ) -> Result<PhysicalAddress, SMMUv3Event> {
    walk(address, .read, by: table).map { $0.address(of: address) }.mapError { event in
      var event = event
      event.operation = .contextFetch
      return event
    }
  }

  /// Stage 2 alone.
  @inline(__always)
  private func walk(
    _ address: UInt64, _ access: Permissions, by table: VMSAv8Table
  ) -> Result<Translation, SMMUv3Event> {
    var trace = LastEntryRead()
    let outcome = window.observed(by: &trace) { tables in
      VMSAv8.walk(stage2: table, address, access: access, memory: &tables)
    }
    switch outcome {
    case .leaf(let page): return .success(page)
    case .fault(let fault): return .failure(.stage2(fault, at: trace.address, of: address, .data))
    }
  }
}

extension CachedLeaf {
  private static let notGlobal: UInt64 = 1 << 11

  /// Of stage 1, whose page this is.
  init(_ page: Translation, _ table: VMSAv8Table, _ descriptor: UInt64) {
    self.init(
      blockShift: page.shift, granuleShift: table.granule.shift,
      isGlobal: descriptor & Self.notGlobal == 0, isReadOnly: !page.permissions.contains(.write))
  }

  /// Of stage 2 alone.
  init(_ page: Translation, _ table: VMSAv8Table) {
    self.init(
      blockShift: page.shift, granuleShift: table.granule.shift, isGlobal: false,
      isReadOnly: false)
  }
}
