// SPDX-License-Identifier: Apache-2.0

// The page walks: second stage (VT-d §3.7), first stage (§3.6), and first stage nested on a second
// stage (§3.8). A walk holds no lock, and ends with a page or with a fault reason of the
// architecture.
//
// Privileged requests and requests to execute reach a walk only if the PASID table entry allows
// them. Therefore the cached permissions of a page never include more than the entry allows.

extension VTdUnit {
  @inline(__always)
  func walkSecondStage(
    _ iova: IOVA, _ access: Permissions, _ space: VTdAddressSpace
  ) -> Result<Translation, VTdFaultReason> {
    var tables = window
    let outcome = RadixWalker<VTdSecondStage>.walk(
      iova.rawValue, space.secondStage.root, access: access, rules: rules, memory: &tables)
    switch outcome {
    case .leaf(let page):
      return Self.checked(page)
    case .fault(let fault):
      return .failure(
        VTdFaultReason(
          secondStage: fault, topLevel: space.secondStageTop, access: access))
    }
  }

  /// Walks the first stage, nested on the second stage if the address space has one.
  /// - Parameters:
  ///   - root: the table where the walk begins.
  ///   - walkedEntries: receives the entries that the walk used.
  func walkFirstStage(
    _ iova: IOVA, _ access: Permissions, _ space: VTdAddressSpace, from root: TableRoot,
    _ walkedEntries: inout WalkedEntries
  ) -> Result<Translation, VTdFaultReason> {
    guard let input = VTdFirstStage.input(iova.rawValue, topLevel: space.firstStageTop) else {
      return .failure(.notCanonical)
    }
    let result =
      space.translationType == .nested
      ? walkNested(input, access, space, root, &walkedEntries)
      : walkAlone(input, access, space, root, &walkedEntries)
    guard case .success(let page) = result else { return result }
    // The cached translation must not allow what the PASID table entry forbids.
    var allowed = page.permissions.subtracting([.execute, .privilegedExecute])
    if !space.allowsPrivilege { allowed.subtract([.privilegedRead, .privilegedWrite]) }
    return Self.checked(
      Translation(physical: page.physical, shift: page.shift, permissions: allowed))
  }

  private func walkAlone(
    _ input: UInt64, _ access: Permissions, _ space: VTdAddressSpace, _ root: TableRoot,
    _ walkedEntries: inout WalkedEntries
  ) -> Result<Translation, VTdFaultReason> {
    let outcome = GuestTableMemory(memory).observed(by: &walkedEntries) { tables in
      RadixWalker<VTdFirstStage>.walk(
        input, root, access: access, rules: firstStageRules, memory: &tables)
    }
    switch outcome {
    case .leaf(let page): return .success(page)
    case .fault(let fault):
      return .failure(
        VTdFaultReason(firstStage: fault, topLevel: space.firstStageTop, access: access))
    }
  }

  private func walkNested(
    _ input: UInt64, _ access: Permissions, _ space: VTdAddressSpace, _ root: TableRoot,
    _ walkedEntries: inout WalkedEntries
  ) -> Result<Translation, VTdFaultReason> {
    let outcome = withUnsafePointer(to: rules) { rules in
      GuestTableMemory(memory).observed(by: &walkedEntries) { guest in
        var tables = NestedTableMemory<VTdSecondStage, _, _>(
          space.secondStage, rules: rules, guest: guest, tables: window)
        return NestedWalker<VTdFirstStage, VTdSecondStage>.walk(
          input, root, access: access, rules: guestRules, tables: &tables)
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

  /// SGN.8: a page must not overlap the interrupt address range.
  @inline(__always)
  private static func checked(_ page: Translation) -> Result<Translation, VTdFaultReason> {
    let last = page.physical.rawValue &+ (1 &<< UInt64(truncatingIfNeeded: page.shift) &- 1)
    guard
      page.physical.rawValue > interruptRange.upperBound || last < interruptRange.lowerBound
    else { return .failure(.outputInInterruptRange) }
    return .success(page)
  }
}
