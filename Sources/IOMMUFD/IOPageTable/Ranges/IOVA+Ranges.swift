// SPDX-License-Identifier: Apache-2.0

// Arithmetic of IOVAs and their ranges. `upperBound` of a range is the last IOVA, which can be all
// ones.

internal import IOMMU
internal import SystemPackage

extension IOVA {
  /// Traps when the sum is not an IOVA.
  static func + (iova: IOVA, bytes: UInt64) -> IOVA { IOVA(iova.rawValue + bytes) }
  /// The bytes from `first` to `iova`, which must not be before it.
  static func - (iova: IOVA, first: IOVA) -> UInt64 { iova.rawValue - first.rawValue }
}

extension ClosedRange<IOVA> {
  static var all: ClosedRange<IOVA> { IOVA(0)...IOVA(.max) }

  /// The range that a client describes with its first IOVA and its length.
  /// - Throws: `.invalidArgument` for length 0, `.overflow` when the range ends behind the last
  ///   IOVA.
  init(_ first: IOVA, length: UInt64) throws(Errno) {
    guard length > 0 else { throw .invalidArgument }
    let (last, overflow) = first.rawValue.addingReportingOverflow(length - 1)
    if overflow { throw .overflow }
    self = first...IOVA(last)
  }

  /// In bytes. Wraps to 0 for the range of all IOVAs, which no area covers.
  var length: UInt64 { upperBound.rawValue &- lowerBound.rawValue &+ 1 }
}
