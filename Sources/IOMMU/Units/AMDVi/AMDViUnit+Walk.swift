// SPDX-License-Identifier: Apache-2.0

// The page walks: host tables (§2.2.3), guest tables (§2.2.6.4), and guest tables nested on a host
// table. A walk holds no lock, and ends with a page or with an event (§2.5.3, §2.5.5).

/// The result of a walk of guest tables, as the IOTLB caches it.
struct AMDViWalkResult {
  let page: Translation
  let leaf: AMDViLeafAttributes

  /// - Parameter first: the page in the guest tables alone.
  @inline(__always)
  init(_ page: Translation, first: Translation) {
    self.page = page
    leaf = AMDViLeafAttributes(shift: first.shift)
  }
}

extension AMDViUnit {
  @inline(__always)
  func walkHost(
    _ address: UInt64, _ access: Permissions, _ host: SecondStageTable, _ domain: DomainID
  ) -> Result<Translation, AMDViEvent> {
    guard address <= host.lastAddress else {
      return .failure(.absent(.domain(domain), at: address))
    }
    var lastEntry = LastEntryRead()
    let outcome = window.observed(by: &lastEntry) { tables in
      RadixWalker<AMDv1>.walk(
        address, host.root, access: AMDv1.secondStageAccess(for: access), rules: hostRules,
        memory: &tables)
    }
    switch outcome {
    case .leaf(let page):
      return .success(
        Translation(
          physical: page.physical, shift: page.shift,
          permissions: AMDv1.firstStageRights(of: page.permissions)))
    case .fault(let fault):
      return .failure(hostEvent(fault, domain, at: address, lastEntry))
    }
  }

  /// Walks guest tables, nested on the host table if there is one.
  /// - Parameters:
  ///   - root: the table where the walk begins.
  ///   - walkedEntries: receives the entries that the walk used.
  func walkGuest(
    _ iova: IOVA, _ access: Permissions, _ space: AMDViAddressSpace, from root: TableRoot,
    _ walkedEntries: inout WalkedEntries
  ) -> Result<AMDViWalkResult, AMDViEvent> {
    guard let input = space.guestInput(iova) else {
      return .failure(.absent(space.eventSpace, at: iova.rawValue))
    }
    return space.translationType == .nested
      ? walkNested(input, iova, access, space, root, &walkedEntries)
      : walkAlone(input, iova, access, space, root, &walkedEntries)
  }

  private func walkAlone(
    _ input: UInt64, _ iova: IOVA, _ access: Permissions, _ space: AMDViAddressSpace,
    _ root: TableRoot, _ walkedEntries: inout WalkedEntries
  ) -> Result<AMDViWalkResult, AMDViEvent> {
    var lastEntry = LastEntryRead()
    let outcome = GuestTableMemory(memory).observed(by: &lastEntry) { tables in
      tables.observed(by: &walkedEntries) { tables in
        RadixWalker<AMDGuest>.walk(
          input, root, access: access, rules: guestRules, memory: &tables)
      }
    }
    switch outcome {
    case .leaf(let page):
      return .success(AMDViWalkResult(page, first: page))
    case .fault(let fault):
      return .failure(.walk(fault, space.eventSpace, at: iova.rawValue, lastEntry.address))
    }
  }

  private func walkNested(
    _ input: UInt64, _ iova: IOVA, _ access: Permissions, _ space: AMDViAddressSpace,
    _ root: TableRoot, _ walkedEntries: inout WalkedEntries
  ) -> Result<AMDViWalkResult, AMDViEvent> {
    var (lastGuestEntry, lastHostEntry) = (LastEntryRead(), LastEntryRead())
    let outcome = withUnsafePointer(to: hostRules) { rules in
      GuestTableMemory(memory).observed(by: &lastGuestEntry) { guest in
        guest.observed(by: &walkedEntries) { guest in
          window.observed(by: &lastHostEntry) { host in
            var tables = NestedTableMemory<AMDv1, _, _>(
              space.host, rules: rules, guest: guest, tables: host)
            return NestedWalker<AMDGuest, AMDv1>.walk(
              input, root, access: access, rules: nestedRules, tables: &tables)
          }
        }
      }
    }
    switch outcome {
    case .leaf(let page, let first):
      return .success(AMDViWalkResult(page, first: first))
    case .fault(.first(let fault)):
      return .failure(.walk(fault, space.eventSpace, at: iova.rawValue, lastGuestEntry.address))
    case .fault(.second(let fault, let address, _)):
      // GN is clear: the host table has no translation of the guest physical address.
      return .failure(hostEvent(fault, space.domain, at: address, lastHostEntry))
    }
  }

  /// Returns the event of a failed host walk. §2.5.3: RZ is clear when a level or a page size is
  /// invalid.
  @inline(never)
  private func hostEvent(
    _ fault: WalkFault, _ domain: DomainID, at address: UInt64, _ lastEntry: LastEntryRead
  ) -> AMDViEvent {
    if case .reserved(let level) = fault,
      !AMDv1.hasReservedBits(lastEntry.entry, level: level, rules: hostRules)
    {
      return .illegalLevel(.domain(domain), at: address)
    }
    return .walk(fault, .domain(domain), at: address, lastEntry.address)
  }
}

extension AMDViAddressSpace {
  /// Returns the part of an address that guest tables translate, or `nil` when the upper bits are
  /// not valid. The upper bits are a sign extension, or zero for requests without PASID. amd:
  /// amd_iommu_domain_alloc_paging_v2()
  @inline(__always)
  fileprivate func guestInput(_ iova: IOVA) -> UInt64? {
    guard isZeroExtended else { return AMDGuest.input(iova.rawValue, topLevel: guest.topLevel) }
    return iova.rawValue >> UInt64(AMDGuest.tableShift(guest.topLevel)) == 0 ? iova.rawValue : nil
  }
}
