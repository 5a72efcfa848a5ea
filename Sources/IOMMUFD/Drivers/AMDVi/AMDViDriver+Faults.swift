// SPDX-License-Identifier: Apache-2.0

// The amd driver's interrupt handlers for the event log (drivers/iommu/amd/iommu.c) and for the
// page request log (ppr.c).
//
// The kernel finds the domain of a page request by PASID, and no domain of iommufd can be attached
// to a PASID. So Linux 7.3 itself answers every page request: it accepts a HWPT with a fault queue
// (IOMMU_HWPT_FAULT_ID_VALID), and the queue stays empty. With a guest's GCR3 table, as the uAPI
// describes it, PASIDs belong to the guest, and page requests go to the fault queue of the nested
// domain.

package import IOMMU

extension AMDViDriver {
  /// Sets the receiver of faults. The handler drains the event log, and answers a page request that
  /// the unit has logged as invalid (amd: iommu_poll_events(), amd_iommu_report_ppr_err()).
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
      guard let sink, isValid(request) else {
        return respond(to: request.groupID, .failure)
      }
      sink(request)
    }
  }

  /// Returns whether the page request has a PASID that the device can have (amd: ppr_is_valid()).
  /// PASID 0 is the PASID of requests without a PASID.
  private func isValid(_ request: PageRequest) -> Bool {
    guard let pasid = request.pasid, pasid.rawValue != 0,
      let properties = knownDevice(request.requester)?.properties
    else { return false }
    return Int(pasid.rawValue) < min(1 << properties.pasidBits, capabilities.pasidCount)
  }

  /// amd: amd_iommu_complete_ppr()
  package func respond(to group: PageRequestGroupID, _ response: PageResponse) {
    submit([
      .completePageRequest(
        of: group.requester, pasid: group.pasid, group: group.group, response)
    ])
  }
}
