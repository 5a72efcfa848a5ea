/// The units a port can be in front of. Closed, so that choosing one is a switch.
enum TranslationUnit: Sendable {
  case vtd(VTdUnit)
  case smmuv3(SMMUv3Unit)
  case amdvi(AMDViUnit)

  @inline(__always)
  func find(_ request: DMARequest, gate: PortGate) -> PhysicalAddress? {
    switch self {
    case .vtd(let unit): unit.find(request, gate: gate)
    case .smmuv3(let unit): unit.find(request, gate: gate)
    case .amdvi(let unit): unit.find(request, gate: gate)
    }
  }

  @inline(__always)
  func translate(
    _ request: DMARequest, gate: PortGate, segments: UnsafeMutableBufferPointer<DMASegment>
  ) -> TranslationOutcome {
    switch self {
    case .vtd(let unit): unit.translate(request, gate: gate, segments: segments)
    case .smmuv3(let unit): unit.translate(request, gate: gate, segments: segments)
    case .amdvi(let unit): unit.translate(request, gate: gate, segments: segments)
    }
  }

  /// The answer to a translation request for the page at the request's address.
  func translatePage(_ request: DMARequest, gate: PortGate) -> PageOutcome {
    switch self {
    case .vtd(let unit): unit.translatePage(request, gate: gate)
    case .smmuv3(let unit): unit.translatePage(request, gate: gate)
    case .amdvi(let unit): unit.translatePage(request, gate: gate)
    }
  }

  /// Whether the function may use addresses that it translated itself; nil: it may.
  func refuseTranslated(_ request: DMARequest, at iova: UInt64) -> FaultRecord? {
    switch self {
    case .vtd(let unit): unit.refuseTranslated(request, at: iova)
    case .smmuv3(let unit): unit.refuseTranslated(request, at: iova)
    case .amdvi(let unit): unit.refuseTranslated(request, at: iova)
    }
  }

  /// - Returns: false when the unit has no page request interface.
  func send(_ request: PageRequest) -> Bool {
    switch self {
    case .vtd(let unit):
      unit.take(request)
      return true
    case .amdvi(let unit): return unit.take(request)
    case .smmuv3: return false
    }
  }

  func report(_ record: FaultRecord) {
    switch self {
    case .vtd(let unit): unit.report(record)
    case .smmuv3(let unit): unit.report(record)
    case .amdvi(let unit): unit.report(record)
    }
  }

  var ports: UnitPorts {
    switch self {
    case .vtd(let unit): unit.ports
    case .smmuv3(let unit): unit.ports
    case .amdvi(let unit): unit.ports
    }
  }
}
