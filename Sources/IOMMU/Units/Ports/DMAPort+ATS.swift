// A function with ATS translates for itself (PCIe 6 §10): it looks into its device TLB, asks the unit for
// what is not there, and then issues requests with translated addresses. What it may not access it can
// ask for.

internal import Synchronization

extension DMAPort {
  /// A request of a function that has ATS enabled.
  @inline(never)
  func performTranslated(
    _ request: DMARequest, copy: (PhysicalMemory, DMASegment, Int) -> MemoryOutcome
  ) -> DMAOutcome {
    let outcome = gate.lock.withLock { _ -> DMAOutcome in
      gate.begin()
      defer { gate.end() }
      var segments: [DMASegment] = []
      if let failure = translateItself(request, &segments) { return failure }
      gate.useDeviceTLB()
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

  /// The stretches of memory that `request` is for, by the device TLB and by translation requests. The
  /// gate's lock is held.
  /// - Returns: why there are none; nil when there are.
  private func translateItself(
    _ request: DMARequest, _ segments: inout [DMASegment]
  ) -> DMAOutcome? {
    guard let last = request.lastIOVA else { return .aborted }
    var iova = request.iova.rawValue
    while true {
      switch translatePage(request, at: iova) {
      case .fault(let record): return .fault(record)
      case .denied: return .denied(IOVA(iova))
      case .page(let page):
        let end = min(iova | UInt64(Frame.size - 1), last.rawValue)
        segments.append(
          DMASegment(physical: page.address(of: iova), count: Int(end - iova) + 1))
        guard end < last.rawValue else {
          return unit.refuseTranslated(request, at: request.iova.rawValue).map { .fault($0) }
        }
        iova = end + 1
      }
    }
  }

  private func translatePage(_ request: DMARequest, at iova: UInt64) -> PageOutcome {
    let (page, generation) = deviceTLB.lookup(iova, pasid: request.pasid, access: request.access)
    if let page { return .page(page) }
    let outcome = unit.translatePage(request.translationRequest(at: iova), gate: gate)
    if case .page(let page) = outcome {
      deviceTLB.insert(page, for: iova, pasid: request.pasid, generation: generation)
    }
    return outcome
  }

  // MARK: Page requests

  /// Sends a page request for each page of a request that may not be accessed so, as one group
  /// (PCIe 6 §10.4).
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
      if !unit.send(request) { deviceTLB.answer(request.groupID, .failure) }
    }
    return deviceTLB.endSending(group).map { .answered($0) } ?? .awaited(group: group)
  }

  /// Pages that one group can ask for.
  private static var groupSize: Int { 32 }

  private func deniedPages(_ request: DMARequest) -> [UInt64] {
    guard let last = request.lastIOVA?.rawValue else { return [] }
    return gate.lock.withLock { _ in
      gate.begin()
      defer { gate.end() }
      var pages: [UInt64] = []
      var page = request.iova.rawValue & ~UInt64(Frame.size - 1)
      while page <= last, pages.count < Self.groupSize {
        if case .denied = translatePage(request, at: page) { pages.append(page) }
        let (next, overflow) = page.addingReportingOverflow(UInt64(Frame.size))
        guard !overflow else { break }
        page = next
      }
      return pages
    }
  }

  package func setPageResponseReceiver(_ receiver: PageResponseReceiver?) {
    deviceTLB.setReceiver(receiver)
  }

  /// What a reset of the function, or disabling ATS, does to it.
  package func resetDeviceTLB() { deviceTLB.reset() }

  /// Translations in the device TLB now.
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
  fileprivate func translationRequest(at iova: UInt64) -> DMARequest {
    var request = DMARequest(self, at: IOVA(iova))
    request.addressType = .translationRequest
    return request
  }

  /// One byte of `request`.
  private init(_ request: DMARequest, at iova: IOVA) {
    requester = request.requester
    pasid = request.pasid
    self.iova = iova
    count = 1
    access = request.access
  }
}
