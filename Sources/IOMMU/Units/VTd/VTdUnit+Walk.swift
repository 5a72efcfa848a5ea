// The page walks: second stage (VT-d §3.7), first stage (§3.6), and both (§3.8), made without any lock.
//
// Each ends in a page or in one of the architecture's reasons. A request that the tables would allow to
// be privileged or to execute is only asked about when the PASID table entry lets it, so what
// is cached says no more than that.

enum VTdWalkResult {
  case success(Translation)
  case failure(VTdFaultReason)
}

/// The entries of a first-stage walk, for the paging-structure cache.
struct VTdWalkSteps {
  private var places = InlineArray<6, UInt64>(repeating: 0)
  private var entries = InlineArray<6, UInt64>(repeating: 0)
  private var count = 0

  @inline(__always)
  fileprivate mutating func note(_ place: PhysicalAddress, _ entry: UInt64) {
    // An entry that changed under the walk is looked at again.
    if count > 0, places[count &- 1] == place.rawValue { count &-= 1 }
    guard count < 6 else { return }
    places[count] = place.rawValue
    entries[count] = entry
    count &+= 1
  }

  /// Every table that the walk came to behind `root`.
  func forEach(from root: TableRoot, _ body: (PagingStructureCache.Step) -> Void) {
    var grant = root.grant
    for index in 0..<max(0, count - 1) {
      grant &= VTdFirstStage.grant(entries[index], root: root)
      body(
        .init(
          table: VTdFirstStage.table(entries[index], root: root),
          level: root.topLevel - index - 1, grant: grant))
    }
  }
}

/// A guest's tables, and what a walk read of them.
private struct RecordingTables: EntryMemory {
  private let base: GuestTables
  private(set) var steps = VTdWalkSteps()

  init(_ memory: PhysicalMemory) { base = GuestTables(memory) }

  @inline(__always)
  mutating func load(_ address: PhysicalAddress) -> UInt64? {
    let entry = base.load(address)
    if let entry { steps.note(address, entry) }
    return entry
  }

  @inline(__always)
  mutating func update(
    _ address: PhysicalAddress, from old: UInt64, to new: UInt64
  ) -> EntryUpdate {
    base.update(address, from: old, to: new)
  }
}

extension TableRoot {
  /// The same table, from the middle of a walk on.
  mutating func begin(at step: PagingStructureCache.Step) {
    address = step.table
    topLevel = step.level
    grant = step.grant
  }
}

extension VTdUnit {
  @inline(__always)
  func walkSecondStage(
    _ iova: UInt64, _ access: Permissions, _ space: VTdAddressSpace
  ) -> VTdWalkResult {
    var tables = window
    let outcome = RadixWalker<VTdSecondStage>.walk(
      iova, space.secondStage.root, access: access, rules: rules, memory: &tables)
    switch outcome {
    case .leaf(let page):
      return Self.checked(page)
    case .fault(let fault):
      return .failure(
        VTdFaultReason(
          secondStage: fault, topLevel: space.secondStageTop, access: access))
    }
  }

  /// The first stage, on top of the second where there is one.
  func walkFirstStage(
    _ iova: UInt64, _ access: Permissions, _ space: VTdAddressSpace, from root: TableRoot,
    _ steps: inout VTdWalkSteps
  ) -> VTdWalkResult {
    guard let address = VTdFirstStage.input(iova, topLevel: space.firstStageTop) else {
      return .failure(.notCanonical)
    }
    let result =
      space.translation == .nested
      ? walkNested(address, access, space, root, &steps)
      : walkAlone(address, access, space, root, &steps)
    guard case .success(let page) = result else { return result }
    // What no request may ask for is not cached as allowed either.
    var allowed = page.permissions.subtracting([.execute, .privilegedExecute])
    if !space.allowsPrivilege { allowed.subtract([.privilegedRead, .privilegedWrite]) }
    return Self.checked(
      Translation(physical: page.physical, shift: page.shift, permissions: allowed))
  }

  private func walkAlone(
    _ address: UInt64, _ access: Permissions, _ space: VTdAddressSpace, _ root: TableRoot,
    _ steps: inout VTdWalkSteps
  ) -> VTdWalkResult {
    var tables = RecordingTables(memory)
    let outcome = RadixWalker<VTdFirstStage>.walk(
      address, root, access: access, rules: firstStageRules, memory: &tables)
    steps = tables.steps
    switch outcome {
    case .leaf(let page): return .success(page)
    case .fault(let fault):
      return .failure(
        VTdFaultReason(firstStage: fault, topLevel: space.firstStageTop, access: access))
    }
  }

  private func walkNested(
    _ address: UInt64, _ access: Permissions, _ space: VTdAddressSpace, _ root: TableRoot,
    _ steps: inout VTdWalkSteps
  ) -> VTdWalkResult {
    withUnsafePointer(to: rules) { rules in
      var tables = NestedTables<VTdSecondStage, RecordingTables, FrameWindow>(
        space.secondStage, rules: rules, guest: RecordingTables(memory), tables: window)
      let outcome = NestedWalker<VTdFirstStage, VTdSecondStage>.walk(
        address, root, access: access, rules: guestRules, tables: &tables)
      steps = tables.guest.steps
      switch outcome {
      case .leaf(let page, first: _): return .success(page)
      case .fault(let fault):
        return .failure(
          VTdFaultReason(
            nested: fault, firstTop: space.firstStageTop,
            secondTop: space.secondStageTop, access: access))
      }
    }
  }

  /// SGN.8: a page must not be where interrupts are.
  @inline(__always)
  private static func checked(_ page: Translation) -> VTdWalkResult {
    let last = page.physical.rawValue &+ (1 &<< UInt64(truncatingIfNeeded: page.shift) &- 1)
    guard
      page.physical.rawValue > interruptRange.upperBound || last < interruptRange.lowerBound
    else { return .failure(.outputInInterruptRange) }
    return .success(page)
  }
}
