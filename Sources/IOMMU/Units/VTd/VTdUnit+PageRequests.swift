// Page requests on their way to the driver, and answers on their way back (VT-d §7.4, §7.6).
//
// The page request queue of the architecture is a ring between the unit and its driver's interrupt
// handler. Here the handler runs when a request comes, on the thread of the function, so the ring
// is never longer than one and cannot overflow.

internal import Synchronization

extension VTdUnit {
  /// Sets who takes page requests; replaces the one before.
  package func setPageRequestSink(_ sink: PageRequestSink?) {
    pageRequestSink.withLock { $0 = sink }
  }

  /// A page request message. VT-d §7.4.1 Page Request Checking: what the context entry does not allow is
  /// recorded, and answered by the unit itself.
  func take(_ request: PageRequest) {
    let generation = state.withLock { $0.generation }
    let reason: VTdFaultReason?
    var suppressed = false
    switch findContext(request.requester, generation) {
    case .failure(let failure):
      reason = failure
    case .success(let context):
      suppressed = context.disablesFaults
      reason =
        !context.isPresent
        ? .contextEntryAbsent : context.allowsPageRequests ? nil : .pageRequestsDisabled
    }
    if let reason {
      let record = request.fault(reason, suppressed: suppressed && reason.isQualified)
      if !record.isSuppressed { report(record) }
      return respond(to: request, .invalid)
    }
    guard let sink = pageRequestSink.withLock({ $0 }) else {
      return respond(to: request, .invalid)
    }
    sink(request)
  }

  /// The unit answers complete groups only: the others wait for their last request.
  private func respond(to request: PageRequest, _ response: PageResponse) {
    if request.isLast { respond(to: request.groupID, response) }
  }

  /// VT-d §7.6.1 Page Group Response Descriptor.
  package func respond(to group: PageRequestGroupID, _ response: PageResponse) {
    ports.forEach(where: { $0 == group.requester }) { _, deviceTLB in
      deviceTLB.answer(group, response)
    }
  }
}

extension PageRequest {
  fileprivate func fault(_ reason: VTdFaultReason, suppressed: Bool) -> FaultRecord {
    var permissions: Permissions = access.contains(.write) ? .write : .read
    if access.contains(.execute), permissions == .read { permissions = .execute }
    if access.contains(.privileged) { permissions = permissions.privileged }
    return FaultRecord(
      requester: requester, pasid: pasid, iova: IOVA(address), access: permissions,
      reason: .vtd(reason), isSuppressed: suppressed)
  }
}
