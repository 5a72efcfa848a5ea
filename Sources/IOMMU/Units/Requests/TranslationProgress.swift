// A request is translated page by page, and its pages become stretches of memory.

/// Where a request stands while its pages are looked up.
struct RequestProgress {
  /// The first byte without an answer yet.
  private(set) var iova: UInt64
  private(set) var left: Int
  /// The memory for what is before it: this many segments.
  private(set) var segments = 0
  private let list: UnsafeMutableBufferPointer<DMASegment>

  /// - Parameter list: has room for one segment for each page.
  @inline(__always)
  init(_ request: DMARequest, into list: UnsafeMutableBufferPointer<DMASegment>) {
    iova = request.iova.rawValue
    left = request.count
    self.list = list
  }

  /// Forgets what was found.
  @inline(__always)
  mutating func restart(_ request: DMARequest) { self = RequestProgress(request, into: list) }

  /// The answer, when nothing is left.
  @inline(__always)
  var mapped: TranslationOutcome { .mapped(segments: segments) }

  /// Notes the memory for the part of the request that is in `page`, where the request stands.
  @inline(__always)
  mutating func append(_ page: Translation) {
    let size = UInt64(1) &<< UInt64(truncatingIfNeeded: page.shift)
    let offset = iova & (size &- 1)
    let physical = page.physical.rawValue &+ offset
    let count = min(left, Int(truncatingIfNeeded: size &- offset))
    // SAFETY: at most one segment for each page, and there is room for as many.
    if segments > 0,
      list[segments &- 1].physical.rawValue
        &+ UInt64(truncatingIfNeeded: list[segments &- 1].count) == physical
    {
      list[segments &- 1].count &+= count
    } else {
      list[segments] = DMASegment(physical: PhysicalAddress(physical), count: count)
      segments &+= 1
    }
    iova &+= UInt64(truncatingIfNeeded: count)
    left &-= count
  }
}

extension Translation {
  /// The page of an address that is its own translation.
  @inline(__always)
  static func itself(_ address: UInt64) -> Translation {
    Translation(
      physical: PhysicalAddress(address & ~UInt64(Frame.size - 1)), shift: Frame.shift,
      permissions: [.read, .write])
  }
}
