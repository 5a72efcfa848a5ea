// SPDX-License-Identifier: Apache-2.0

// An allocator of blocks of 2^order frames, aligned to their size, in chunks that it takes from the
// chunk directory and gives back. Free blocks whose buddies are free are joined.
//
// `BufferFrames` owns the arena.

struct FrameArena {
  struct Block {
    let frame: Int
    let order: Int
  }

  /// log2 of the frames of a chunk, the largest block.
  private static let maximum = Chunk.shift - Frame.shift

  /// The first frames of free blocks of one size.
  private struct FreeBlocks {
    private var frames: [Int] = []
    private var positions: [Int: Int] = [:]

    mutating func insert(_ frame: Int) {
      positions[frame] = frames.count
      frames.append(frame)
    }

    mutating func popLast() -> Int? {
      guard let frame = frames.popLast() else { return nil }
      positions[frame] = nil
      return frame
    }

    /// - Returns: false when no free block begins with `frame`.
    mutating func remove(_ frame: Int) -> Bool {
      guard let position = positions.removeValue(forKey: frame), let last = frames.popLast() else {
        return false
      }
      if last != frame {
        frames[position] = last
        positions[last] = position
      }
      return true
    }
  }

  private var free = Array(repeating: FreeBlocks(), count: maximum + 1)
  private var chunks: Set<Int> = []

  /// Returns the order of the smallest block with `count` frames.
  static func order(of count: Int) -> Int {
    count <= 1 ? 0 : Int.bitWidth - (count - 1).leadingZeroBitCount
  }

  func contains(chunk: Int) -> Bool { chunks.contains(chunk) }

  /// - Returns: `nil` when no chunk is free.
  mutating func allocate(order: Int, _ directory: inout ChunkDirectory) -> Block? {
    for size in order...Self.maximum {
      if let frame = free[size].popLast() { return split(frame, size, to: order) }
    }
    guard let chunk = directory.allocateBufferChunk() else { return nil }
    chunks.insert(chunk)
    return split(Chunk.frames(of: chunk).lowerBound, Self.maximum, to: order)
  }

  private mutating func split(_ frame: Int, _ size: Int, to order: Int) -> Block {
    for half in (order..<size).reversed() { free[half].insert(frame + 1 << half) }
    return Block(frame: frame, order: order)
  }

  /// - Returns: the chunk that was given back to `directory`, if one was.
  mutating func free(_ block: Block, _ directory: inout ChunkDirectory) -> Int? {
    var (frame, order) = (block.frame, block.order)
    while order < Self.maximum, free[order].remove(frame ^ 1 << order) {
      frame &= ~(1 << order)
      order += 1
    }
    // One chunk stays, for a client that maps and unmaps again and again.
    guard order == Self.maximum, chunks.count > 1 else {
      free[order].insert(frame)
      return nil
    }
    let chunk = PhysicalAddress(frame: frame).chunk
    chunks.remove(chunk)
    directory.freeBufferChunk(chunk)
    return chunk
  }
}
