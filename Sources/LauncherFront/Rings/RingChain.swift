// SPDX-License-Identifier: Apache-2.0

/// The requests that come before a request and are linked to it (IOSQE_IO_LINK,
/// IOSQE_IO_HARDLINK).
struct RingChain {
  /// Whether the kernel makes one of them.
  private(set) var hasForeign = false
  /// Whether one of them has failed, so that the kernel cancels those after it.
  private(set) var hasFailed = false

  private static let linked: UInt8 = 1 << 2
  private static let hardLinked: UInt8 = 1 << 3

  /// Adds a request.
  /// - Parameter result: `nil` when the kernel makes it.
  mutating func add(_ flags: UInt8, result: Int32?) {
    guard flags & (Self.linked | Self.hardLinked) != 0 else { return self = RingChain() }
    if let result {
      // A hard link is not broken by a failure.
      if result < 0, flags & Self.hardLinked == 0 { hasFailed = true }
    } else {
      hasForeign = true
    }
  }
}
