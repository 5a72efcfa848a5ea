// SPDX-License-Identifier: Apache-2.0

// Page requests to the driver and page responses to the functions (VT-d §7.4, §7.6).
//
// The page request queue of the architecture is a ring between the unit and the interrupt handler
// of its driver. Here the handler runs as soon as a request arrives, on the thread of the function.
// Therefore the queue never holds more than one request and cannot overflow.

internal import Synchronization

extension VTdUnit {
  /// Sets the handler of page requests; replaces the previous one.
  package func setPageRequestSink(_ sink: PageRequestSink?) { pageRequests.setSink(sink) }

  /// Handles a page request message. VT-d §7.4.1 Page Request Checking: the unit records a fault
  /// for a request that the context entry does not allow, and responds to the request itself.
  func receive(_ request: PageRequest) {
    let generation = state.withLock { $0.generation }
    let reason: VTdFaultReason?
    var isSuppressed = false
    switch contextEntry(of: request.requester, generation) {
    case .failure(let failure):
      reason = failure
    case .success(let context):
      isSuppressed = context.disablesFaults
      reason =
        !context.isPresent
        ? .contextEntryAbsent : context.allowsPageRequests ? nil : .pageRequestsDisabled
    }
    if let reason {
      let record = request.fault(reason, isSuppressed: isSuppressed && reason.isQualified)
      if !record.isSuppressed { report(record) }
      return respond(to: request, .invalid)
    }
    guard let sink = pageRequests.sink else {
      return respond(to: request, .invalid)
    }
    sink(request)
  }

  /// Responds to the group of `request` if `request` is its last one. The unit responds to complete
  /// groups only.
  private func respond(to request: PageRequest, _ response: PageResponse) {
    if request.isLast { respond(to: request.groupID, response) }
  }

  /// Performs VT-d §7.6.1 Page Group Response Descriptor.
  package func respond(to group: PageRequestGroupID, _ response: PageResponse) {
    ports.forEach(where: { $0 == group.requester }) { _, deviceTLB in
      deviceTLB.answer(group, response)
    }
  }
}

extension PageRequest {
  fileprivate func fault(_ reason: VTdFaultReason, isSuppressed: Bool) -> FaultRecord {
    var permissions: Permissions = access.contains(.write) ? .write : .read
    if access.contains(.execute), permissions == .read { permissions = .execute }
    if access.contains(.privileged) { permissions = permissions.privileged }
    return FaultRecord(
      requester: requester, pasid: pasid, iova: address, access: permissions,
      reason: .vtd(reason), isSuppressed: isSuppressed)
  }
}
