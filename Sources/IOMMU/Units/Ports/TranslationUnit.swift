// SPDX-License-Identifier: Apache-2.0

/// The unit in front of which a port is. A closed enum, so that the choice of the unit is a switch
/// and no existential call.
enum TranslationUnit: Sendable {
  case vtd(VTdUnit)
  case smmuv3(SMMUv3Unit)
  case amdvi(AMDViUnit)

  /// Returns the physical address of a request that is within one page and whose translation is in
  /// the IOTLB; `nil` for every other request.
  @inline(__always)
  func cachedAddress(of request: DMARequest, inFlight: InFlightRequest) -> PhysicalAddress? {
    switch self {
    case .vtd(let unit): unit.cachedAddress(of: request, inFlight: inFlight)
    case .smmuv3(let unit): unit.cachedAddress(of: request, inFlight: inFlight)
    case .amdvi(let unit): unit.cachedAddress(of: request, inFlight: inFlight)
    }
  }

  /// Translates a whole request.
  /// - Parameter segments: receives the physical ranges; has room for one segment per page.
  @inline(__always)
  func translate(
    _ request: DMARequest, inFlight: InFlightRequest,
    segments: UnsafeMutableBufferPointer<DMASegment>
  ) -> TranslationOutcome {
    switch self {
    case .vtd(let unit): unit.translate(request, inFlight: inFlight, segments: segments)
    case .smmuv3(let unit): unit.translate(request, inFlight: inFlight, segments: segments)
    case .amdvi(let unit): unit.translate(request, inFlight: inFlight, segments: segments)
    }
  }

  /// Answers an ATS translation request for the page at the request's address.
  func translatePage(_ request: DMARequest, inFlight: InFlightRequest) -> TranslationCompletion {
    switch self {
    case .vtd(let unit): unit.translatePage(request, inFlight: inFlight)
    case .smmuv3(let unit): unit.translatePage(request, inFlight: inFlight)
    case .amdvi(let unit): unit.translatePage(request, inFlight: inFlight)
    }
  }

  /// Checks whether the function may issue requests with translated addresses.
  /// - Parameter iova: the untranslated address, for the fault record.
  /// - Returns: the fault, or `nil` when the request may pass.
  func checkTranslated(_ request: DMARequest, at iova: IOVA) -> FaultRecord? {
    switch self {
    case .vtd(let unit): unit.checkTranslated(request, at: iova)
    case .smmuv3(let unit): unit.checkTranslated(request, at: iova)
    case .amdvi(let unit): unit.checkTranslated(request, at: iova)
    }
  }

  /// Delivers a page request message to the unit.
  /// - Returns: `false` when the unit does not handle page requests.
  func receive(_ request: PageRequest) -> Bool {
    switch self {
    case .vtd(let unit):
      unit.receive(request)
      return true
    case .amdvi(let unit): return unit.receive(request)
    case .smmuv3: return false
    }
  }

  /// Records a fault in the unit's fault records and raises the fault interrupt.
  func report(_ record: FaultRecord) {
    switch self {
    case .vtd(let unit): unit.report(record)
    case .smmuv3(let unit): unit.report(record)
    case .amdvi(let unit): unit.report(record)
    }
  }

  var ports: PortList {
    switch self {
    case .vtd(let unit): unit.ports
    case .smmuv3(let unit): unit.ports
    case .amdvi(let unit): unit.ports
    }
  }
}
