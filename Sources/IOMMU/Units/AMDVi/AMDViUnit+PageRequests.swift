// SPDX-License-Identifier: Apache-2.0

// Peripheral page requests (§2.6): the unit passes entries of the PPR log to the driver, and the
// driver responds with COMPLETE_PPR_REQUEST. The driver's handler runs as soon as a request
// arrives, on the thread of the function. Therefore the log never holds more than one entry.

internal import Synchronization

extension AMDViUnit {
  /// Sets the handler of page requests; replaces the previous one.
  package func setPageRequestSink(_ sink: PageRequestSink?) { pageRequests.setSink(sink) }

  /// Handles a page request message. A request that the device table entry does not allow (PPR) is
  /// recorded as an INVALID_PPR_REQUEST with RX clear, so software has to respond to it.
  /// - Returns: `false` when neither software nor the unit will respond.
  func receive(_ request: PageRequest) -> Bool {
    guard capabilities.pageRequests, let sink = pageRequests.sink else {
      return false
    }
    let generation = state.withLock { $0.generation }
    guard
      case .success(let entry) = deviceTableEntry(
        of: request.requester, at: request.address, generation),
      entry.isValid, entry.allowsPageRequests
    else {
      report(
        FaultRecord(
          requester: request.requester, pasid: request.pasid, iova: request.address,
          access: request.access.contains(.write) ? .write : .read,
          reason: .amdvi(.invalidPageRequest(request)), isSuppressed: false))
      return true
    }
    sink(request)
    return true
  }
}
