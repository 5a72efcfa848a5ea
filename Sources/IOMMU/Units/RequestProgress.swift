// A request is translated page by page, and its pages become stretches of memory.

/// Where a request stands while its pages are looked up.
struct RequestProgress {
  /// The first byte without an answer yet.
  private(set) var iova: UInt64
  private(set) var left: Int
  private(set) var segments = 0

  @inline(__always)
  init(_ request: DMARequest) {
    iova = request.iova.rawValue
    left = request.count
  }

  /// Notes the memory for the part of the request that is in `page`, where the request stands.
  @inline(__always)
  mutating func append(
    _ page: Translation, to list: UnsafeMutableBufferPointer<DMASegment>
  ) {
    let size = UInt64(1) &<< UInt64(truncatingIfNeeded: page.shift)
    let offset = iova & (size &- 1)
    let physical = page.physical.rawValue &+ offset
    let count = min(left, Int(truncatingIfNeeded: size &- offset))
    // SAFETY: at most one segment for each page, and the caller has room for as many.
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
