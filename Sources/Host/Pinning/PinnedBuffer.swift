// SPDX-License-Identifier: Apache-2.0

/// Pages of a client that the kernel keeps pinned while this object exists. The object refers to
/// the pages and not to the addresses at which the client has mapped them.
package final class PinnedBuffer: Sendable {
  /// The size limit of a buffer. Buffers begin and end within one multiple of this size.
  package static let maximumSize: UInt64 = 1 << 30

  /// The address of the first page when the pages were pinned.
  package let address: UInt64
  /// The number of pages of 4 KiB.
  package let pageCount: Int
  /// The address space that the pages belonged to.
  package let space: AddressSpace
  private let ring: PinRing
  private let slot: UInt32

  init(_ range: Range<UInt64>, of space: AddressSpace, in ring: PinRing, slot: UInt32) {
    address = range.lowerBound
    pageCount = Int((range.upperBound - range.lowerBound) >> 12)
    self.ring = ring
    self.slot = slot
    self.space = space
  }

  deinit { ring.remove(slot) }

  /// Fills `buffer` from the pages.
  /// - Parameter offset: bytes from the start of the first page. `buffer` ends in the last page.
  /// - Returns: false when the kernel refuses.
  package func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
    ring.read(slot, at: address + offset, into: buffer)
  }

  /// Stores `bytes` in the pages.
  package func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) -> Bool {
    ring.write(slot, bytes, at: address + offset)
  }
}
