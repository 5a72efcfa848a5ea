// Memory for tables: naturally aligned blocks of 2^n pages, zeroed, taken from chunks of server RAM.
//
// Blocks that are freed are kept by size and reused; they are not joined to larger ones, because
// each format asks for the same few sizes again and again. What alignment skips is kept as smaller
// blocks, so nothing is lost.
//
// A free block holds zeros. Most tables are empty when they are freed, so that clearing them then
// and not when they are taken mostly costs nothing.

internal import Glibc
internal import Synchronization
package import SystemPackage

struct TableArena: ~Copyable {
  private let limit: Int
  private(set) var pagesInUse = 0
  /// Unused part of the newest chunk, in frames.
  private var fresh = 0..<0
  /// First frames of free blocks, by log2 of their pages.
  private var free = InlineArray<19, [Int]>(repeating: [])

  init(limit: Int) { self.limit = limit }

  /// A block of 2^order pages, or nil when a new chunk is needed first.
  mutating func take(order: Int) -> Int? {
    if let frame = free[order].popLast() {
      pagesInUse += 1 << order
      return frame
    }
    let pages = 1 << order
    while fresh.lowerBound & (pages - 1) != 0, !fresh.isEmpty { keepOneBlock() }
    guard fresh.count >= pages else { return nil }
    defer { fresh = (fresh.lowerBound + pages)..<fresh.upperBound }
    pagesInUse += pages
    return fresh.lowerBound
  }

  func allows(order: Int) -> Bool { pagesInUse <= limit - 1 << order }

  mutating func addChunk(_ frames: Range<Int>) {
    while !fresh.isEmpty { keepOneBlock() }
    fresh = frames
  }

  /// Moves the largest aligned block at the start of `fresh` to the free blocks. A chunk ends at a
  /// multiple of its size, so the block never reaches beyond it.
  private mutating func keepOneBlock() {
    let order = min(
      fresh.lowerBound.trailingZeroBitCount,
      fresh.count.bitWidth - 1 - fresh.count.leadingZeroBitCount)
    free[order].append(fresh.lowerBound)
    fresh = (fresh.lowerBound + 1 << order)..<fresh.upperBound
  }

  mutating func give(_ frame: Int, order: Int) {
    free[order].append(frame)
    pagesInUse -= 1 << order
  }
}

extension PhysicalMemory {
  /// A zeroed table of 2^`sizeShift` bytes (4 KiB to 1 GiB) at a multiple of its size.
  /// - Throws: `.noMemory` at the machine's limit.
  package func allocateTable(sizeShift: Int = Frame.shift) throws(Errno) -> PhysicalAddress {
    guard (Frame.shift...Frame.chunkShift).contains(sizeShift) else { throw .invalidArgument }
    if shouldFailAllocation() { throw .noMemory }
    let order = sizeShift - Frame.shift
    let frame = tables.withLock { arena -> Int? in
      guard arena.allows(order: order) else { return nil }
      if let frame = arena.take(order: order) { return frame }
      guard let chunk = addTableChunk() else { return nil }
      arena.addChunk(chunk)
      return arena.take(order: order)
    }
    guard let frame else { throw .noMemory }
    let physical = PhysicalAddress(UInt64(frame) << UInt64(Frame.shift))
    assert(isClear(physical, sizeShift), "a free block holds zeros")
    window.setKind(.direct, frames: frame..<frame + 1 << order)
    return physical
  }

  /// Gives back what `allocateTable` returned. No unit may hold its address any more.
  /// - Parameter isClear: it is known to hold zeros.
  package func freeTable(
    _ physical: PhysicalAddress, sizeShift: Int = Frame.shift, isClear: Bool = false
  ) {
    let frame = Int(physical.rawValue >> UInt64(Frame.shift))
    let order = sizeShift - Frame.shift
    window.setKind(.none, frames: frame..<frame + 1 << order)
    if !isClear { memset(window.pointer(physical), 0, 1 << sizeShift) }
    tables.withLock { $0.give(frame, order: order) }
  }

  /// Pages that hold tables now.
  package var tablePagesInUse: Int { tables.withLock { $0.pagesInUse } }

  private func isClear(_ physical: PhysicalAddress, _ sizeShift: Int) -> Bool {
    let first = window.pointer(physical).assumingMemoryBound(to: UInt8.self)
    // Equal to itself one byte further on.
    return first[0] == 0 && memcmp(first, first + 1, 1 << sizeShift - 1) == 0
  }

  /// Makes one more chunk RAM of this server. Nil: no chunk or no memory left.
  private func addTableChunk() -> Range<Int>? {
    guard let chunk = directory.withLock({ $0.takeTableChunk() }) else { return nil }
    let first = chunk * Frame.framesPerChunk
    // When the host refuses, the chunk stays unused.
    guard protect(chunk, PROT_READ | PROT_WRITE) else { return nil }
    return first..<first + Frame.framesPerChunk
  }
}
