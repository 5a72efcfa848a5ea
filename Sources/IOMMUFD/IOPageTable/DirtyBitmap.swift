// SPDX-License-Identifier: Apache-2.0

// A dirty bitmap in a client's memory (iommufd: iova_bitmap.c). One bit is for `pageSize` bytes of
// IOVAs.
//
// The kernel pins a window of the bitmap, of at most 512 pages, and moves the window to the bits
// that it sets next. A client can see where the window ends: the bits of a page-table entry that
// reaches beyond the range are also set behind the end of the bitmap, up to the end of the last
// page of the window. So the window is computed here as there, although nothing is pinned. A page
// of the bitmap is copied in when its first bit is set, and what changed of it is copied out before
// the next page. Bits of a page that cannot be copied are dropped.

internal import IOMMU
internal import SystemPackage
internal import UAPI

struct DirtyBitmap {
  private let address: UInt64
  private let first: UInt64
  private let last: UInt64
  /// log2 of the bytes of IOVAs per bit.
  private let shift: UInt64
  /// The length of the bitmap in bytes.
  private let count: UInt64
  private let memory: any UserMemory

  private struct Window {
    /// The first byte of the bitmap in the window.
    let base: UInt64
    let pages: UInt64
  }

  private var window: Window?
  private var page = Page()

  private static let pageSize: UInt64 = 4096
  /// The number of page pointers that fit into one page.
  private static let windowLimit: UInt64 = 512

  /// - Parameter pageSize: not zero. The lowest set bit is the size that counts.
  init(
    at address: UInt64, for range: ClosedRange<IOVA>, pageSize: UInt64, memory: any UserMemory
  ) {
    self.address = address
    self.memory = memory
    first = range.lowerBound.rawValue
    last = range.upperBound.rawValue
    shift = UInt64(pageSize.trailingZeroBitCount)
    count = ((last - first) >> shift) / 8 + 1
  }

  /// Sets the bits of a range of IOVAs. iova_bitmap_set()
  mutating func set(_ iova: IOVA, length: UInt64) {
    var (iova, length) = (iova.rawValue, length)
    while true {
      guard let window = window(for: iova, length) else { return }
      self.window = window
      let origin = address &+ window.base
      let skipped = origin % Self.pageSize * 8
      let start = windowStart(window)
      let firstBit = ((iova &- start) >> shift) &+ skipped
      let lastBit = ((iova &+ length &- 1 &- start) >> shift) &+ skipped
      let end = window.pages * Self.pageSize * 8
      guard firstBit <= lastBit, firstBit < end,
        setBits(firstBit...min(lastBit, end - 1), from: origin & ~(Self.pageSize - 1)),
        lastBit >= end
      else { return }
      let left = (lastBit - end + 1) << shift
      iova &+= length &- left
      length = left
    }
  }

  /// Copies out the changes that are still in the server.
  mutating func finish() { page.flush(to: memory) }

  // MARK: The window

  /// iova_bitmap_mapped_iova()
  private func windowStart(_ window: Window) -> UInt64 {
    first &+ (window.base &* 8) << shift
  }

  /// iova_bitmap_mapped_range()
  private func contains(_ window: Window, _ iova: UInt64, _ length: UInt64) -> Bool {
    let start = windowStart(window)
    let bytes = window.pages * Self.pageSize - (address &+ window.base) % Self.pageSize
    let remaining = min(count - window.base, bytes)
    var size = (remaining &* 8) << shift
    if start &+ size &- 1 > last { size &-= (start &+ size &- 1) &- last }
    return iova >= start && iova &+ length &- 1 <= start &+ size &- 1
  }

  /// Returns the present window when the range is in it, otherwise a new one that begins with the
  /// bit of `iova`; `nil` when the bitmap has no such bit. iova_bitmap_advance_to(),
  /// iova_bitmap_get()
  private func window(for iova: UInt64, _ length: UInt64) -> Window? {
    if let window, contains(window, iova, length) { return window }
    let base = ((iova &- first) >> shift) / 8
    guard base < count else { return nil }
    let pages = (count - base + Self.pageSize - 1) / Self.pageSize
    let isSplit = (address &+ base) % Self.pageSize != 0
    return Window(base: base, pages: min(pages + (isSplit ? 1 : 0), Self.windowLimit))
  }

  // MARK: Bits

  /// - Parameters:
  ///   - bits: counted from `start`.
  ///   - start: the address of a page.
  /// - Returns: `false` when a page cannot be read.
  private mutating func setBits(_ bits: ClosedRange<UInt64>, from start: UInt64) -> Bool {
    let bitsOfPage = Self.pageSize * 8
    var bit = bits.lowerBound
    while bit <= bits.upperBound {
      let end = min(bits.upperBound, bit | (bitsOfPage - 1))
      let address = start &+ bit / bitsOfPage * Self.pageSize
      guard page.open(at: address, in: memory) else { return false }
      page.setBits(Int(bit % bitsOfPage)...Int(end % bitsOfPage))
      bit = end + 1
    }
    return true
  }

  /// The copy of one page of the bitmap.
  private struct Page {
    private var address: UInt64?
    private var bytes: [UInt8] = []
    /// The bytes that were changed since the page was copied in.
    private var changed: ClosedRange<Int>?

    mutating func open(at address: UInt64, in memory: any UserMemory) -> Bool {
      if self.address == address { return true }
      flush(to: memory)
      self.address = nil
      if bytes.isEmpty { bytes = Array(repeating: 0, count: Int(DirtyBitmap.pageSize)) }
      let isRead = bytes.withUnsafeMutableBytes { bytes in
        (try? memory.copyIn(from: address, into: bytes)) != nil
      }
      if isRead { self.address = address }
      return isRead
    }

    mutating func setBits(_ bits: ClosedRange<Int>) {
      let (first, last) = (bits.lowerBound / 8, bits.upperBound / 8)
      let head = UInt8(truncatingIfNeeded: 0xff << (bits.lowerBound % 8))
      let tail = UInt8(truncatingIfNeeded: 0xff >> (7 - bits.upperBound % 8))
      if first == last {
        bytes[first] |= head & tail
      } else {
        bytes[first] |= head
        for index in first + 1..<last { bytes[index] = 0xff }
        bytes[last] |= tail
      }
      changed = changed.map { min($0.lowerBound, first)...max($0.upperBound, last) } ?? first...last
    }

    mutating func flush(to memory: any UserMemory) {
      guard let address, let changed else { return }
      self.changed = nil
      bytes.withUnsafeBytes { bytes in
        _ = try? memory.copyOut(
          UnsafeRawBufferPointer(rebasing: bytes[changed]),
          to: address &+ UInt64(changed.lowerBound))
      }
    }
  }
}
