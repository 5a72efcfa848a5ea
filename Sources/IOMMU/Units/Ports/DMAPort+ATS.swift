// SPDX-License-Identifier: Apache-2.0

// Requests of a function that has ATS enabled (PCIe 6 §10). The function looks a page up in its
// device TLB, sends a translation request to the unit when the page is not there, and then issues
// requests with translated addresses. It can send page requests for pages that it may not access.

internal import Synchronization

extension DMAPort {
  /// Performs a request through the function's device TLB.
  @inline(never)
  func performWithDeviceTLB(
    _ request: DMARequest, copy: (PhysicalMemory, DMASegment, Int) -> MemoryOutcome
  ) -> DMAOutcome {
    let outcome = inFlight.lock.withLock { _ -> DMAOutcome in
      inFlight.begin()
      defer { inFlight.end() }
      var segments: [DMASegment] = []
      if let failure = translateByDeviceTLB(request, &segments) { return failure }
      inFlight.useDeviceTLB()
      var offset = 0
      for segment in segments {
        guard copy(memory, segment, offset) == .done else { return .aborted }
        offset += segment.count
      }
      return .completed
    }
    if case .fault(let record) = outcome, !record.isSuppressed { unit.report(record) }
    return outcome
  }

  /// Translates `request` with the device TLB and with translation requests. Requires the port's
  /// lock.
  /// - Parameter segments: receives the physical ranges.
  /// - Returns: the outcome of a request that failed; `nil` when `segments` is complete.
  private func translateByDeviceTLB(
    _ request: DMARequest, _ segments: inout [DMASegment]
  ) -> DMAOutcome? {
    guard let last = request.lastIOVA else { return .aborted }
    var iova = request.iova
    while true {
      switch translatePage(request, at: iova) {
      case .fault(let record): return .fault(record)
      case .denied: return .denied(iova)
      case .page(let page):
        let end = min(iova.rawValue | UInt64(Frame.size - 1), last.rawValue)
        segments.append(
          DMASegment(
            physical: page.address(of: iova.rawValue), count: Int(end - iova.rawValue) + 1))
        guard end < last.rawValue else {
          return unit.checkTranslated(request, at: request.iova).map { .fault($0) }
        }
        iova = IOVA(end + 1)
      }
    }
  }

  private func translatePage(_ request: DMARequest, at iova: IOVA) -> TranslationCompletion {
    let (page, generation) = deviceTLB.lookup(iova, pasid: request.pasid, access: request.access)
    if let page { return .page(page) }
    let outcome = unit.translatePage(request.translationRequest(at: iova), inFlight: inFlight)
    if case .page(let page) = outcome {
      deviceTLB.insert(page, for: iova, pasid: request.pasid, generation: generation)
    }
    return outcome
  }

  // MARK: Page requests

  /// Sends a page request for each page of the range that the function may not access in this way.
  /// The requests form one page request group (PCIe 6 §10.4).
  package func requestPages(
    _ iova: IOVA, count: Int, writes: Bool, _ attributes: DMAAttributes
  ) -> PageRequestAnswer {
    guard count > 0 else { return .unavailable }
    let request = DMARequest(
      requester: requester, attributes, iova: iova, count: count, writes: writes)
    let pages = deniedPages(request)
    guard !pages.isEmpty else { return .answered(.success) }
    guard let group = deviceTLB.beginGroup(pasid: attributes.pasid) else { return .unavailable }
    for (index, page) in pages.enumerated() {
      let request = PageRequest(
        requester: requester, pasid: attributes.pasid, group: group, address: page,
        access: PageRequestAccess(attributes, writes: writes), isLast: index == pages.count - 1)
      if !unit.receive(request) { deviceTLB.answer(request.groupID, .failure) }
    }
    return deviceTLB.endSending(group).map { .answered($0) } ?? .awaited(group: group)
  }

  /// The maximum number of pages that one group requests.
  private static var groupSize: Int { 32 }

  private func deniedPages(_ request: DMARequest) -> [IOVA] {
    guard let last = request.lastIOVA?.rawValue else { return [] }
    return inFlight.lock.withLock { _ in
      inFlight.begin()
      defer { inFlight.end() }
      var pages: [IOVA] = []
      var page = request.iova.rawValue & ~UInt64(Frame.size - 1)
      while page <= last, pages.count < Self.groupSize {
        if case .denied = translatePage(request, at: IOVA(page)) { pages.append(IOVA(page)) }
        let (next, overflow) = page.addingReportingOverflow(UInt64(Frame.size))
        guard !overflow else { break }
        page = next
      }
      return pages
    }
  }

  /// Sets the function's receiver of page responses, and of answers to stalls; replaces the
  /// previous one.
  package func setPageResponseReceiver(_ receiver: PageResponseReceiver?) {
    deviceTLB.setReceiver(receiver)
  }

  /// Empties the device TLB and drops outstanding page request groups, as a reset of the function
  /// or disabling ATS does.
  package func resetDeviceTLB() { deviceTLB.reset() }

  /// The number of translations in the device TLB.
  package var deviceTranslations: Int { deviceTLB.count }
}

extension PageRequestAccess {
  fileprivate init(_ attributes: DMAAttributes, writes: Bool) {
    self = writes ? .write : .read
    if attributes.executes { insert(.execute) }
    if attributes.isPrivileged { insert(.privileged) }
  }
}

extension DMARequest {
  /// The translation request for the page at `iova`, with the access of this request.
  fileprivate func translationRequest(at iova: IOVA) -> DMARequest {
    var request = DMARequest(self, at: iova)
    request.addressType = .translationRequest
    return request
  }

  /// Makes a request for one byte, with the attributes and the access of `request`.
  private init(_ request: DMARequest, at iova: IOVA) {
    requester = request.requester
    pasid = request.pasid
    self.iova = iova
    count = 1
    access = request.access
  }
}
