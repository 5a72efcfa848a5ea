// Peripheral page requests (§2.6): entries of the PPR log on their way to the driver; answers come back as
// COMPLETE_PPR_REQUEST. As in the other units the driver's handler runs on the thread of the function, so the
// log is never longer than one entry.

internal import Synchronization

extension AMDViUnit {
  /// Sets who takes page requests; replaces the one before.
  package func setPageRequestSink(_ sink: PageRequestSink?) {
    pageRequestSink.withLock { $0 = sink }
  }

  /// A page request message. What the entry does not allow (PPR) is an INVALID_PPR_REQUEST, with RX clear:
  /// software is to answer it.
  /// - Returns: false when nobody will.
  func take(_ request: PageRequest) -> Bool {
    guard capabilities.pageRequests, let sink = pageRequestSink.withLock({ $0 }) else {
      return false
    }
    let generation = state.withLock { $0.generation }
    guard
      case .success(let entry) = findEntry(
        of: request.requester, at: request.address, generation),
      entry.isValid, entry.requestsPages
    else {
      report(
        FaultRecord(
          requester: request.requester, pasid: request.pasid, iova: IOVA(request.address),
          access: request.access.contains(.write) ? .write : .read,
          reason: .amdvi(.invalidPageRequest(request)), isSuppressed: false))
      return true
    }
    sink(request)
    return true
  }
}
