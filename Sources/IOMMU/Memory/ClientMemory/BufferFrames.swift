// SPDX-License-Identifier: Apache-2.0

// Frames of pages that the kernel keeps pinned (`PinnedBuffer`).
//
// Each buffer has frames of its own, in chunks that stand for no GiB of a client: the same address
// can have several pages one after the other, and each of them stays pinned as long as its frames.
// The frames of a buffer are adjacent, and as aligned as the addresses were, so that superpages
// form.
//
// `ClientFrames` owns the frames.

internal import Host

struct BufferFrames {
  private struct Entry {
    let buffer: PinnedBuffer
    let block: FrameArena.Block
    /// The frame of the first page.
    let first: Int
    var pinnedFrames: Int

    var end: Int { first + buffer.pageCount }
  }

  /// For updates of table entries. Accesses to these frames never wait for a client, so one lock
  /// serves all.
  let updateLock = EntryUpdateLock()
  private let window: FrameWindow
  /// For each frame, the index in `entries` plus 1, or 0.
  private let owners: SparseArray<UInt32>
  private var entries = SlotArray<Entry>()
  private var arena = FrameArena()

  init(in reservation: Reservation) {
    window = reservation.window
    owners = reservation.owners
  }

  func contains(chunk: Int) -> Bool { arena.contains(chunk: chunk) }

  /// Makes frames of the pages of `buffer`.
  /// - Returns: `nil` when no chunk is free.
  mutating func add(_ buffer: PinnedBuffer, _ chunks: inout ChunkDirectory) -> FrameRun? {
    let page = Int(buffer.address >> UInt64(Frame.shift)) & (Chunk.frames - 1)
    let alignment = Self.alignment(of: page, count: buffer.pageCount)
    let skipped = page & (alignment - 1)
    let order = FrameArena.order(of: skipped + buffer.pageCount)
    guard let block = arena.allocate(order: order, &chunks) else { return nil }
    let first = block.frame + skipped
    let entry = Entry(buffer: buffer, block: block, first: first, pinnedFrames: buffer.pageCount)
    let frames = first..<first + buffer.pageCount
    owners.set(UInt32(entries.add(entry) + 1), frames)
    window.setKind(.pinned, frames: frames)
    return FrameRun(frames)
  }

  /// Returns the size in pages of the largest aligned block of pages, a power of two, that lies in
  /// the `count` pages from `page` on.
  private static func alignment(of page: Int, count: Int) -> Int {
    var size = 1 << (Int.bitWidth - 1 - count.leadingZeroBitCount)
    while (page + size - 1) & ~(size - 1) + size > page + count { size >>= 1 }
    return size
  }

  /// Removes `frames`, which are in one chunk.
  /// - Parameter released: receives the buffers that have no frame any more.
  mutating func remove(
    _ frames: Range<Int>, _ chunks: inout ChunkDirectory, released: inout [PinnedBuffer]
  ) {
    var frame = frames.lowerBound
    while frame < frames.upperBound {
      let index = Int(owners.base[frame]) - 1
      guard index >= 0, var entry = entries[index] else {
        frame += 1
        continue
      }
      let part = frame..<min(entry.end, frames.upperBound)
      owners.set(0, part)
      window.setKind(.none, frames: part)
      entry.pinnedFrames -= part.count
      entries[index] = entry.pinnedFrames > 0 ? entry : nil
      if entry.pinnedFrames == 0 {
        released.append(entry.buffer)
        if let chunk = arena.free(entry.block, &chunks) {
          owners.clear(Chunk.frames(of: chunk))
        }
      }
      frame = part.upperBound
    }
  }

  /// Returns the buffer of the frame at `physical`, the offset there, and the number of bytes from
  /// there on whose frames are of the same buffer.
  func buffer(at physical: PhysicalAddress) -> (buffer: PinnedBuffer, offset: UInt64, count: Int)? {
    let index = Int(owners.base[physical.frame]) - 1
    guard index >= 0, let entry = entries[index] else { return nil }
    let offset = physical.rawValue - PhysicalAddress(frame: entry.first).rawValue
    return (entry.buffer, offset, entry.buffer.pageCount << Frame.shift - Int(offset))
  }

  /// Returns the number of buffers that contain the page at `address` of `space`.
  func count(at address: UInt64, of space: AddressSpace) -> Int {
    entries.elements.count { entry in
      guard entry.buffer.space === space, entry.buffer.address <= address else {
        return false
      }
      let page = Int((address - entry.buffer.address) >> UInt64(Frame.shift))
      return page < entry.buffer.pageCount
        && owners.base[entry.first + page] != 0
    }
  }
}
