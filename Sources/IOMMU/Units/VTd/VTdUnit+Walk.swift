// The page walks: second stage (VT-d §3.7), first stage (§3.6), and both (§3.8), made without any lock.
//
// Each ends in a page or in one of the architecture's reasons. A request that the tables would allow to
// be privileged or to execute is only asked about when the PASID table entry lets it, so what
// is cached says no more than that.

extension VTdUnit {
  @inline(__always)
  func walkSecondStage(
    _ iova: UInt64, _ access: Permissions, _ space: VTdAddressSpace
  ) -> Result<Translation, VTdFaultReason> {
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
    _ steps: inout WalkedEntries
  ) -> Result<Translation, VTdFaultReason> {
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
    _ steps: inout WalkedEntries
  ) -> Result<Translation, VTdFaultReason> {
    let outcome = GuestTableMemory(memory).observed(by: &steps) { tables in
      RadixWalker<VTdFirstStage>.walk(
        address, root, access: access, rules: firstStageRules, memory: &tables)
    }
    switch outcome {
    case .leaf(let page): return .success(page)
    case .fault(let fault):
      return .failure(
        VTdFaultReason(firstStage: fault, topLevel: space.firstStageTop, access: access))
    }
  }

  private func walkNested(
    _ address: UInt64, _ access: Permissions, _ space: VTdAddressSpace, _ root: TableRoot,
    _ steps: inout WalkedEntries
  ) -> Result<Translation, VTdFaultReason> {
    let outcome = withUnsafePointer(to: rules) { rules in
      GuestTableMemory(memory).observed(by: &steps) { guest in
        var tables = NestedTableMemory<VTdSecondStage, _, _>(
          space.secondStage, rules: rules, guest: guest, tables: window)
        return NestedWalker<VTdFirstStage, VTdSecondStage>.walk(
          address, root, access: access, rules: guestRules, tables: &tables)
      }
    }
    switch outcome {
    case .leaf(let page, first: _): return .success(page)
    case .fault(let fault):
      return .failure(
        VTdFaultReason(
          nested: fault, firstTop: space.firstStageTop,
          secondTop: space.secondStageTop, access: access))
    }
  }

  /// SGN.8: a page must not be where interrupts are.
  @inline(__always)
  private static func checked(_ page: Translation) -> Result<Translation, VTdFaultReason> {
    let last = page.physical.rawValue &+ (1 &<< UInt64(truncatingIfNeeded: page.shift) &- 1)
    guard
      page.physical.rawValue > interruptRange.upperBound || last < interruptRange.lowerBound
    else { return .failure(.outputInInterruptRange) }
    return .success(page)
  }
}
