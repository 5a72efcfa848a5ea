// The amd driver's interrupt handlers: of the event log (iommu.c) and of the page request log (ppr.c).
//
// A page request gets to a domain only by PASID, and no domain of iommufd's can be attached to one. So Linux
// 7.3 answers every one of them itself: a queue attached to a page table (IOMMU_HWPT_FAULT_ID_VALID) is
// accepted and stays empty. With a guest's GCR3 table, as the uAPI describes it, the PASIDs are the guest's,
// and its requests go to the queue of the nested domain.

package import IOMMU

extension AMDViDriver {
  /// The event log's interrupt handler empties it, and answers page requests that the unit did not
  /// take. amd: iommu_poll_events(), amd_iommu_report_ppr_err()
  package func setFaultSink(_ sink: FaultSink?) {
    unit.setFaultSink { [weak self] record in
      guard let self else { return }
      _ = unit.consumeEvents()
      if case .amdvi(let event) = record.reason, event.kind == .invalidPageRequest {
        respond(
          to: PageRequestGroupID(
            requester: record.requester, pasid: record.pasid, group: UInt32(event.tag & 0x1ff)),
          .failure)
      }
      sink?(record)
    }
  }

  /// amd: iommu_call_iopf_notifier()
  package func setPageRequestSink(_ sink: PageRequestSink?) {
    unit.setPageRequestSink { [weak self] request in
      guard let self else { return }
      guard let sink, isSensible(request) else {
        return respond(to: request.groupID, .failure)
      }
      sink(request)
    }
  }

  /// amd: ppr_is_valid(): those without PASID are ignored. PASID 0 is that of requests without one.
  private func isSensible(_ request: PageRequest) -> Bool {
    guard let pasid = request.pasid, pasid.rawValue != 0,
      let properties = knownDevice(request.requester)?.properties
    else { return false }
    // The unit has one less than its bits say. amd: iommu_init_pci()
    let count = min(1 << properties.pasidBits, 1 << unit.capabilities.pasidBits - 1)
    return Int(pasid.rawValue) < count
  }

  /// amd: amd_iommu_complete_ppr()
  package func respond(to group: PageRequestGroupID, _ response: PageResponse) {
    submit([
      .completePageRequest(
        of: group.requester, pasid: group.pasid, group: group.group, response)
    ])
  }
}
