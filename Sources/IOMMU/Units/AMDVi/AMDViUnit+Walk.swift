// The page walks: host tables (§2.2.3), guest tables (§2.2.6.4), and both, made without any lock; and what
// of a walk's end becomes an event (§2.5.3, §2.5.5).

/// What a walk of guest tables found, as the IOTLB keeps it.
struct AMDViGuestPage {
  let page: Translation
  let cached: AMDViCachedPage

  /// - Parameter first: the page that guest tables alone have.
  @inline(__always)
  init(_ page: Translation, first: Translation) {
    self.page = page
    cached = AMDViCachedPage(shift: first.shift)
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
    var trace = LastEntryRead()
    let outcome = window.observed(by: &trace) { tables in
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
      return .failure(hostEvent(fault, domain, at: address, trace))
    }
  }

  /// Guest tables, on top of the host's where there are some.
  /// - Parameters:
  ///   - root: where the walk begins.
  ///   - steps: becomes what it went through.
  func walkGuest(
    _ iova: UInt64, _ access: Permissions, _ space: AMDViAddressSpace, from root: TableRoot,
    _ steps: inout WalkedEntries
  ) -> Result<AMDViGuestPage, AMDViEvent> {
    guard let input = space.guestInput(iova) else {
      return .failure(.absent(space.subject, at: iova))
    }
    return space.path == .nested
      ? walkNested(input, iova, access, space, root, &steps)
      : walkAlone(input, iova, access, space, root, &steps)
  }

  private func walkAlone(
    _ input: UInt64, _ iova: UInt64, _ access: Permissions, _ space: AMDViAddressSpace,
    _ root: TableRoot, _ steps: inout WalkedEntries
  ) -> Result<AMDViGuestPage, AMDViEvent> {
    var trace = LastEntryRead()
    let outcome = GuestTableMemory(memory).observed(by: &trace) { tables in
      tables.observed(by: &steps) { tables in
        RadixWalker<AMDGuest>.walk(
          input, root, access: access, rules: guestRules, memory: &tables)
      }
    }
    switch outcome {
    case .leaf(let page):
      return .success(AMDViGuestPage(page, first: page))
    case .fault(let fault):
      return .failure(.walk(fault, space.subject, at: iova, trace.address))
    }
  }

  private func walkNested(
    _ input: UInt64, _ iova: UInt64, _ access: Permissions, _ space: AMDViAddressSpace,
    _ root: TableRoot, _ steps: inout WalkedEntries
  ) -> Result<AMDViGuestPage, AMDViEvent> {
    var (guestTrace, hostTrace) = (LastEntryRead(), LastEntryRead())
    let outcome = withUnsafePointer(to: hostRules) { rules in
      GuestTableMemory(memory).observed(by: &guestTrace) { guest in
        guest.observed(by: &steps) { guest in
          window.observed(by: &hostTrace) { host in
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
      return .success(AMDViGuestPage(page, first: first))
    case .fault(.first(let fault)):
      return .failure(.walk(fault, space.subject, at: iova, guestTrace.address))
    case .fault(.second(let fault, let address, _)):
      // GN is clear: it is the host's table that has nothing at the guest's address.
      return .failure(hostEvent(fault, space.domain, at: address, hostTrace))
    }
  }

  /// §2.5.3: RZ is clear where levels, or a page's size, are none.
  @inline(never)
  private func hostEvent(
    _ fault: WalkFault, _ domain: DomainID, at address: UInt64, _ trace: LastEntryRead
  ) -> AMDViEvent {
    if case .reserved(let level) = fault,
      !AMDv1.hasReservedBits(trace.entry, level: level, rules: hostRules)
    {
      return .illegalLevel(.domain(domain), at: address)
    }
    return .walk(fault, .domain(domain), at: address, trace.address)
  }
}

extension AMDViAddressSpace {
  /// The part of an address that guest tables translate; nil when it is not canonical. Addresses of
  /// requests without PASID have zeros there instead of a sign.
  /// amd: amd_iommu_domain_alloc_paging_v2()
  @inline(__always)
  fileprivate func guestInput(_ iova: UInt64) -> UInt64? {
    guard isFlat else { return AMDGuest.input(iova, topLevel: guest.topLevel) }
    return iova >> UInt64(AMDGuest.tableShift(guest.topLevel)) == 0 ? iova : nil
  }
}
