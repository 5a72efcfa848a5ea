// SPDX-License-Identifier: Apache-2.0

// The allocator of table memory: zeroed blocks of 2^order frames, aligned to their size, in chunks
// that are RAM of this server. `PhysicalMemory` owns the arena and guards it with a lock.
//
// Freed blocks are kept by size and reused. They are not merged into larger blocks, because each
// page-table format allocates the same few sizes again and again. Frames that alignment skips
// become smaller free blocks, so none is wasted.
//
// A free block holds zeros. Tables are cleared when they are freed and not when they are allocated,
// because most tables are known to be empty when they are freed.

struct TableArena: ~Copyable {
  private let limit: Int
  private(set) var pagesInUse = 0
  /// The frames of the newest chunk that were never allocated.
  private var fresh = 0..<0
  /// The first frames of free blocks, by order.
  private var free = InlineArray<19, [Int]>(repeating: [])

  /// - Parameter limit: in pages of 4 KiB.
  init(limit: Int) { self.limit = limit }

  /// Returns whether the limit allows a block of 2^order pages more.
  func allows(order: Int) -> Bool { pagesInUse <= limit - 1 << order }

  /// Allocates a block of 2^order pages.
  /// - Returns: the block's first frame. `nil` when a new chunk must be added first.
  mutating func allocate(order: Int) -> Int? {
    if let frame = free[order].popLast() {
      pagesInUse += 1 << order
      return frame
    }
    let pages = 1 << order
    while fresh.lowerBound & (pages - 1) != 0, !fresh.isEmpty { moveFreshBlockToFree() }
    guard fresh.count >= pages else { return nil }
    defer { fresh = (fresh.lowerBound + pages)..<fresh.upperBound }
    pagesInUse += pages
    return fresh.lowerBound
  }

  /// Frees a block of 2^order zeroed pages.
  mutating func free(_ frame: Int, order: Int) {
    free[order].append(frame)
    pagesInUse -= 1 << order
  }

  /// Adds the frames of a chunk of zeroed RAM.
  mutating func addChunk(_ frames: Range<Int>) {
    while !fresh.isEmpty { moveFreshBlockToFree() }
    fresh = frames
  }

  /// Moves the largest aligned block at the start of `fresh` to the free blocks. The block never
  /// reaches beyond the chunk, because a chunk ends at a multiple of its size.
  private mutating func moveFreshBlockToFree() {
    let order = min(
      fresh.lowerBound.trailingZeroBitCount,
      fresh.count.bitWidth - 1 - fresh.count.leadingZeroBitCount)
    free[order].append(fresh.lowerBound)
    fresh = (fresh.lowerBound + 1 << order)..<fresh.upperBound
  }
}
