// SPDX-License-Identifier: Apache-2.0

// The intel driver's interrupt handlers for the fault event (drivers/iommu/intel/dmar.c) and for
// the page request queue (prq.c).

package import IOMMU

extension VTdDriver {
  /// Sets the receiver of faults. The handler drains the fault recording registers, as dmar_fault()
  /// does, so that they do not overflow.
  package func setFaultSink(_ sink: FaultSink?) {
    unit.setFaultSink { [weak unit] record in
      _ = unit?.consumeFaultRecords()
      sink?(record)
    }
  }

  /// Sets the receiver of valid page requests. The driver itself answers an invalid page request.
  package func setPageRequestSink(_ sink: PageRequestSink?) {
    unit.setPageRequestSink { [weak self] request in
      guard request.isValid, let sink else {
        if request.isLast { self?.respond(to: request.groupID, .invalid) }
        return
      }
      sink(request)
    }
  }

  /// intel: intel_iommu_page_response()
  package func respond(to group: PageRequestGroupID, _ response: PageResponse) {
    unit.respond(to: group, response)
  }
}

extension PageRequest {
  /// Whether the address is canonical for the processor and the processor's page fault handler
  /// could make the access (intel: prq_event_thread()).
  fileprivate var isValid: Bool {
    let high = Int64(bitPattern: address.rawValue) >> 47
    guard high == 0 || high == -1 else { return false }
    if access.contains(.privileged), !access.isDisjoint(with: [.read, .write]) { return false }
    return !access.isSuperset(of: [.execute, .read])
  }
}
