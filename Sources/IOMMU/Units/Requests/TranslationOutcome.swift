// SPDX-License-Identifier: Apache-2.0

// The unit's answers: to a memory request (`TranslationOutcome`) and to an ATS translation request
// (`TranslationCompletion`).

/// A range of physical memory for a part of a request.
struct DMASegment {
  var physical: PhysicalAddress
  var count: Int
}

/// The unit's answer to a whole memory request.
enum TranslationOutcome {
  /// The request is translated, and this many segments are stored, in the order of the addresses.
  case mapped(segments: Int)
  case fault(FaultRecord)
  /// The addresses do not lead to memory. No fault is recorded, and the request is not completed.
  case unclaimed
}

/// The unit's answer to a translation request (PCIe 6 §10.2.3).
enum TranslationCompletion {
  /// The page, with permissions that include the requested access.
  case page(Translation)
  /// A completion that does not grant the requested access.
  case denied
  /// The translation request itself failed.
  case fault(FaultRecord)

  /// Translates the page of a translation request as for a memory request.
  /// - Parameter isDenial: whether a fault is answered as a page without permissions and not
  ///   recorded.
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
