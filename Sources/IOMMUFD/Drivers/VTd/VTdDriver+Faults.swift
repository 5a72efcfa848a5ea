// The intel driver's interrupt handlers: of the fault event (drivers/iommu/intel/dmar.c) and of the page
// request queue (prq.c).

package import IOMMU

extension VTdDriver {
  /// Sets who is told of faults. The fault event handler empties the recording registers, as
  /// dmar_fault() does, so that they never overflow.
  package func setFaultSink(_ sink: FaultSink?) {
    unit.setFaultSink { [weak unit] record in
      _ = unit?.consumeFaultRecords()
      sink?(record)
    }
  }

  /// Sets who is told of page requests that make sense; the driver answers the others itself.
  package func setPageRequestSink(_ sink: PageRequestSink?) {
    unit.setPageRequestSink { [weak self] request in
      guard request.isSensible, let sink else {
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
  /// intel: prq_event_thread(): the address is canonical for the processor, and the access is one that
  /// its page fault handler could make.
  fileprivate var isSensible: Bool {
    let high = Int64(bitPattern: address.rawValue) >> 47
    guard high == 0 || high == -1 else { return false }
    if access.contains(.privileged), !access.isDisjoint(with: [.read, .write]) { return false }
    return !access.isSuperset(of: [.execute, .read])
  }
}
