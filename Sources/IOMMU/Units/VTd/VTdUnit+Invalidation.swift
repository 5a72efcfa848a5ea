// What the driver submits to the invalidation queue (VT-d §6.5). An invalidation of translations
// also drains (DR and DW of its descriptor): it returns when no request can still use them.

internal import Synchronization

/// VT-d §6.5.2.1 Context-Cache Invalidate: granularities.
package enum VTdContextScope: Hashable, Sendable {
  case global
  case device(RequesterID)
}

/// VT-d §6.5.2.2 PASID-Cache Invalidate: granularities.
package enum VTdPASIDScope: Hashable, Sendable {
  case global
  case domain(DomainID)
  case pasid(DomainID, PASID)
}

extension VTdUnit {
  package func invalidateContextCache(_ scope: VTdContextScope) {
    state.withLock { state in
      state.generation &+= 1
      switch scope {
      case .global:
        state.contexts.invalidate { _, _ in true }
        state.spaces.invalidate { _, _ in true }
      case .device(let requester):
        state.contexts.invalidate { key, _ in key == UInt64(requester.rawValue) }
        state.spaces.invalidate { _, space in space.requester == requester }
      }
    }
  }

  package func invalidatePASIDCache(_ scope: VTdPASIDScope) {
    state.withLock { state in
      state.generation &+= 1
      switch scope {
      case .global:
        state.spaces.invalidate { _, _ in true }
      case .domain(let domain):
        state.spaces.invalidate { _, space in space.domain == domain }
      case .pasid(let domain, let pasid):
        state.spaces.invalidate { _, space in space.domain == domain && space.pasid == pasid }
      }
    }
  }

  /// VT-d §6.5.2.3 IOTLB Invalidate, and for the scopes with a PASID §6.5.2.4 PASID-based-IOTLB
  /// Invalidate.
  /// - Parameter keepsPagingStructures: IH: no table entry has changed that leads to another table.
  package func invalidateIOTLB(
    _ scope: InvalidationScope, keepsPagingStructures: Bool = false
  ) {
    state.withLock { state in
      state.generation &+= 1
      state.iotlb.invalidate(scope)
      if !keepsPagingStructures { state.pagingStructures.invalidate(scope) }
    }
    ports.drain(scope.domain)
  }

  /// VT-d §6.5.2.5 Device-TLB Invalidate, and with a PASID §6.5.2.6 PASID-based-Device-TLB Invalidate.
  package func invalidateDeviceTLB(
    of requester: RequesterID, _ scope: DeviceTLBScope = .all, pasid: PASID? = nil
  ) {
    ports.invalidateDeviceTLBs(scope, pasid: pasid) { $0 == requester }
  }

  /// Requesters and PASIDs whose tables are in the PASID cache now.
  package var cachedAddressSpaces: Int { state.withLock { $0.spaces.count } }

  /// Translations in the IOTLB now.
  package var cachedTranslations: Int { state.withLock { $0.iotlb.count } }

  /// Entries in the paging-structure cache now.
  package var cachedPagingStructures: Int { state.withLock { $0.pagingStructures.count } }
}
