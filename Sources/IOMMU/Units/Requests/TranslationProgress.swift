// SPDX-License-Identifier: Apache-2.0

/// The progress of a request whose pages a unit translates one after the other.
struct TranslationProgress {
  /// The address of the first byte that is not translated yet.
  private(set) var iova: IOVA
  /// The number of bytes that are not translated yet.
  private(set) var remaining: Int
  /// The number of segments for the bytes before `iova`.
  private(set) var segmentCount = 0
  private let segments: UnsafeMutableBufferPointer<DMASegment>

  /// - Parameter segments: has room for one segment per page of the request.
  @inline(__always)
  init(_ request: DMARequest, into segments: UnsafeMutableBufferPointer<DMASegment>) {
    iova = request.iova
    remaining = request.count
    self.segments = segments
  }

  /// Discards all segments and starts the request again.
  @inline(__always)
  mutating func restart(_ request: DMARequest) {
    self = TranslationProgress(request, into: segments)
  }

  /// The unit's answer when nothing remains.
  @inline(__always)
  var outcome: TranslationOutcome { .mapped(segments: segmentCount) }

  /// Appends the physical memory of the part of the request that is in `page`, the page of `iova`.
  /// A segment that continues the last one extends it.
  @inline(__always)
  mutating func append(_ page: Translation) {
    let size = UInt64(1) &<< UInt64(truncatingIfNeeded: page.shift)
    let offset = iova.rawValue & (size &- 1)
    let physical = page.physical.rawValue &+ offset
    let count = min(remaining, Int(truncatingIfNeeded: size &- offset))
    // SAFETY: there is at most one segment per page, and the buffer has room for that many.
    if segmentCount > 0,
      segments[segmentCount &- 1].physical.rawValue
        &+ UInt64(truncatingIfNeeded: segments[segmentCount &- 1].count) == physical
    {
      segments[segmentCount &- 1].count &+= count
    } else {
      segments[segmentCount] = DMASegment(physical: PhysicalAddress(physical), count: count)
      segmentCount &+= 1
    }
    iova = IOVA(iova.rawValue &+ UInt64(truncatingIfNeeded: count))
    remaining &-= count
  }
}

extension Translation {
  /// Returns the identity translation of the 4 KiB page that contains `iova`.
  @inline(__always)
  static func identity(of iova: IOVA) -> Translation {
    Translation(
      physical: PhysicalAddress(iova.rawValue & ~UInt64(Frame.size - 1)), shift: Frame.shift,
      permissions: [.read, .write])
  }
}
