/// A stretch of physical memory that part of a request is for.
struct DMASegment {
  var physical: PhysicalAddress
  var count: Int
}

/// The unit's answer to a whole request.
enum TranslationOutcome {
  /// The segments were stored, in the order of the addresses; this many.
  case mapped(segments: Int)
  case fault(FaultRecord)
  /// The addresses are not memory: nothing is recorded, and nobody completes the request.
  case unclaimed
}

/// The unit's answer to a translation request (PCIe 6 §10.2.3).
enum PageOutcome {
  /// The page, and what is allowed there, the asked access included.
  case page(Translation)
  /// A completion without that permission.
  case denied
  /// The request itself failed.
  case fault(FaultRecord)

  /// Of a page that is translated as for a memory request.
  /// - Parameter isDenial: whether a fault is answered as a page without rights, and not recorded.
  init(
    _ request: DMARequest,
    translate: (UnsafeMutableBufferPointer<DMASegment>) -> TranslationOutcome,
    isDenial: (FaultRecord) -> Bool
  ) {
    self = withUnsafeTemporaryAllocation(of: DMASegment.self, capacity: 1) { segment in
      switch translate(segment) {
      case .mapped:
        let physical = PhysicalAddress(segment[0].physical.rawValue & ~0xfff)
        return .page(
          Translation(physical: physical, shift: Frame.shift, permissions: request.access))
      case .unclaimed:
        return .denied
      case .fault(let record):
        return isDenial(record) ? .denied : .fault(record)
      }
    }
  }
}
