// SPDX-License-Identifier: Apache-2.0

// Invalidations that the driver submits to the invalidation queue (VT-d §6.5). An IOTLB
// invalidation also drains (DR and DW of its descriptor): the function returns when no request can
// still use a removed translation.

internal import Synchronization

/// The granularity of a context-cache invalidation (VT-d §6.5.2.1 Context-Cache Invalidate).
package enum VTdContextScope: Hashable, Sendable {
  case global
  case device(RequesterID)
}

/// The granularity of a PASID-cache invalidation (VT-d §6.5.2.2 PASID-Cache Invalidate).
package enum VTdPASIDScope: Hashable, Sendable {
  case global
  case domain(DomainID)
  case pasid(DomainID, PASID)
}

extension VTdUnit {
  /// Performs VT-d §6.5.2.1 Context-Cache Invalidate. It also removes the PASID cache entries of
  /// the selected functions.
  package func invalidateContextCache(_ scope: VTdContextScope) {
    state.withLock { state in
      state.generation &+= 1
      switch scope {
      case .global:
        state.contextEntries.invalidate { _, _ in true }
        state.addressSpaces.invalidate { _, _ in true }
      case .device(let requester):
        state.contextEntries.invalidate { key, _ in key == UInt64(requester.rawValue) }
        state.addressSpaces.invalidate { _, space in space.requester == requester }
      }
    }
  }

  /// Performs VT-d §6.5.2.2 PASID-Cache Invalidate.
  package func invalidatePASIDCache(_ scope: VTdPASIDScope) {
    state.withLock { state in
      state.generation &+= 1
      switch scope {
      case .global:
        state.addressSpaces.invalidate { _, _ in true }
      case .domain(let domain):
        state.addressSpaces.invalidate { _, space in space.domain == domain }
      case .pasid(let domain, let pasid):
        state.addressSpaces.invalidate { _, space in
          space.domain == domain && space.pasid == pasid
        }
      }
    }
  }

  /// Performs VT-d §6.5.2.3 IOTLB Invalidate, or §6.5.2.4 PASID-based-IOTLB Invalidate for a scope
  /// with a PASID.
  /// - Parameter keepsPagingStructures: IH: no entry that references another table has changed.
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

  /// Performs VT-d §6.5.2.5 Device-TLB Invalidate, or §6.5.2.6 PASID-based-Device-TLB Invalidate
  /// with a PASID.
  package func invalidateDeviceTLB(
    of requester: RequesterID, _ scope: DeviceTLBScope = .all, pasid: PASID? = nil
  ) {
    ports.invalidateDeviceTLBs(scope, pasid: pasid) { $0 == requester }
  }
}
