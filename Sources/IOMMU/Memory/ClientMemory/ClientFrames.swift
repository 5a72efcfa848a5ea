// SPDX-License-Identifier: Apache-2.0

// Frames that stand for client pages: which exist, and how often each is pinned.
//
// A pin makes frames of a client's pages, as pin_user_pages() and memfd_pin_folios() do in the
// kernel. A page has one frame however often it is pinned, and each frame counts its pins. Memory
// of a process is used in place. Shared memory is mapped into the reservation, so that a DMA to it
// is a memory copy, and the mapping keeps the pages when the client unmaps them or ends.
//
// A client can still take pages away from a shared file. Retained pages keep their contents
// (`RetainedFilePages`). Of the others, those behind a new end of the file are `truncated` from
// then on, also when the file grows again, until they are pinned anew.
//
// `PhysicalMemory` owns this state and guards it with a lock. Accesses do not take that lock: they
// read only the kind of a frame.

internal import Host

struct ClientFrames {
  private let limits: PhysicalMemory.Limits
  private let window: FrameWindow
  private let pins: SparseArray<UInt32>
  private var chunks: ChunkDirectory
  private var files: FileMappings
  private var copies: ProcessCopies
  private var buffers: BufferFrames
  /// The number of frames that are pinned now.
  private(set) var pinnedFrames = 0
  /// The chunk that was released last. The pin counts of its frames keep their host memory.
  private var lastReleased: Int?

  /// - Parameter fileMappings: the limit of host mappings for files.
  init(in reservation: Reservation, limits: PhysicalMemory.Limits, fileMappings: Int) {
    self.limits = limits
    window = reservation.window
    pins = reservation.pins
    chunks = ChunkDirectory(
      chunkCount: 1 << (reservation.addressBits - Chunk.shift), limits: limits)
    files = FileMappings(in: reservation, limits: limits, limit: fileMappings)
    copies = ProcessCopies(in: reservation, limit: limits.preservedBytes)
    buffers = BufferFrames(in: reservation)
  }

  /// The number of host mappings that pinned files need now.
  var fileMappings: Int { files.count + files.retained.extraMappings }

  var retainedRuns: Int { files.retained.count }

  // MARK: Pinning

  /// Pins `pages` pages at `start`, a file offset or an address in a process.
  /// - Parameter shouldFail: makes the pin fail where it returns true. Called once for each chunk.
  /// - Returns: the frames in the order of the pages, with adjacent ones joined. `nil`, with
  ///   nothing pinned, at a limit of the machine or the host.
  mutating func pin(
    pages: Int, at start: UInt64, of owner: ChunkOwner, backing: ChunkBacking,
    shouldFail: () -> Bool
  ) -> [FrameRun]? {
    guard pinnedFrames + pages <= limits.pinnedFrames else { return nil }
    var runs: [FrameRun] = []
    var (address, left) = (start, pages)
    while left > 0 {
      let first = Int(address >> UInt64(Frame.shift)) & (Chunk.frames - 1)
      let count = min(left, Chunk.frames - first)
      let source = ChunkSource(owner: owner, index: address >> UInt64(Chunk.shift))
      guard
        pin(
          first..<first + count, of: source, backing: backing, shouldFail: shouldFail, into: &runs)
      else { break }
      (address, left) = (address + UInt64(count) << UInt64(Frame.shift), left - count)
    }
    guard left == 0 else {
      // None of these frames belongs to a buffer.
      var released: [PinnedBuffer] = []
      for run in runs { unpin(run, released: &released) }
      return nil
    }
    return runs
  }

  /// Makes frames of the pages of `buffer`.
  /// - Returns: `nil` at a limit of the machine.
  mutating func pin(_ buffer: PinnedBuffer) -> FrameRun? {
    guard pinnedFrames + buffer.pageCount <= limits.pinnedFrames,
      let run = buffers.add(buffer, &chunks)
    else { return nil }
    pinnedFrames += run.pages
    return run
  }

  /// Pins `pages` of one GiB, numbered from its start.
  /// - Parameter runs: receives the frames, also when some cannot be pinned.
  /// - Returns: false when some cannot be pinned.
  private mutating func pin(
    _ pages: Range<Int>, of source: ChunkSource, backing: ChunkBacking, shouldFail: () -> Bool,
    into runs: inout [FrameRun]
  ) -> Bool {
    // Pages of a process that are used in place are not replaced.
    if case .process = backing {
      return pin(pages, of: source, layer: 0, backing: backing, shouldFail, into: &runs)
    }
    for (part, layer) in layers(of: pages, source) {
      guard pin(part, of: source, layer: layer, backing: backing, shouldFail, into: &runs) else {
        return false
      }
    }
    return true
  }

  private mutating func pin(
    _ pages: Range<Int>, of source: ChunkSource, layer: Int, backing: ChunkBacking,
    _ shouldFail: () -> Bool, into runs: inout [FrameRun]
  ) -> Bool {
    guard layer < ChunkSource.layerCount, !shouldFail(),
      let number = chunks.chunk(for: source.inLayer(layer), backing: backing)
    else { return false }
    let first = number * Chunk.frames
    let frames = first + pages.lowerBound..<first + pages.upperBound
    guard pin(frames, of: number, backing: backing) else {
      if chunks[number]?.pinnedFrames == 0 { release(number) }
      return false
    }
    runs.append(frames: frames)
    return true
  }

  /// Divides pages of one GiB by the layer of their frames: the layer in which a page has a frame,
  /// otherwise the lowest one that has no frame with its number.
  private mutating func layers(
    of pages: Range<Int>, _ source: ChunkSource
  ) -> [(pages: Range<Int>, layer: Int)] {
    let numbers = chunks.numbersOfLayers(of: source)
    let first = numbers.map { $0.map { $0 * Chunk.frames } }
    var lost = false
    for case .some(let start) in first {
      let frames = start + pages.lowerBound..<start + pages.upperBound
      guard let chunk = chunks[start / Chunk.frames], case .file = chunk.backing,
        !window.areAll(.none, frames)
      else { continue }
      if files.retained.replaceLost(frames, in: chunk) { lost = true }
    }
    guard lost || numbers.count > 1 else { return [(pages, 0)] }
    var runs: [(pages: Range<Int>, layer: Int)] = []
    for page in pages {
      let layer = layer(ofPage: page, first)
      if let last = runs.last, last.layer == layer {
        runs[runs.count - 1].pages = last.pages.lowerBound..<page + 1
      } else {
        runs.append((page..<page + 1, layer))
      }
    }
    return runs
  }

  /// - Parameter first: the first frame of each layer, as far as it has a chunk.
  private func layer(ofPage page: Int, _ first: [Int?]) -> Int {
    var free: Int?
    for (layer, start) in first.enumerated() {
      guard let start, window.kind(ofFrame: start + page) != .none else {
        free = free ?? layer
        continue
      }
      if !files.retained.isReplaced(start + page) { return layer }
    }
    return free ?? first.count
  }

  /// Adds one pin to each of `frames`, which are in chunk `number`.
  /// - Returns: false, with nothing changed, when the host has no memory for them.
  private mutating func pin(
    _ frames: Range<Int>, of number: Int, backing: ChunkBacking
  ) -> Bool {
    guard var chunk = chunks[number] else { return false }
    defer { chunks.store(chunk) }
    // Most pins are for pages that are not pinned yet. Then no frame needs a test of its own.
    let areFresh = pins.areAll(0, frames)
    guard areFresh || frames.allSatisfy({ pins.base[$0] < .max }) else { return false }
    switch backing {
    case .process where areFresh: window.setKind(.remote, frames: frames)
    case .process:
      for frame in frames where pins.base[frame] == 0 { window.setKind(.remote, frame: frame) }
    case .file(let file):
      guard files.map(frames, of: &chunk, as: file) else { return false }
    }
    let fresh = areFresh ? frames.count : frames.count { pins.base[$0] == 0 }
    if areFresh { pins.set(1, frames) } else { for frame in frames { pins.base[frame] += 1 } }
    pinnedFrames += fresh
    chunk.pinnedFrames += fresh
    return true
  }

  /// Returns the number of pins of frame number `frame`.
  func pinCount(of frame: Int) -> Int {
    window.kind(ofFrame: frame) == .pinned ? 1 : Int(pins.base[frame])
  }

  // MARK: Unpinning

  /// Removes one pin from every frame of `run`.
  /// - Parameter released: receives the buffers that have no frame any more. They are to be
  ///   released without a lock, because the kernel then unpins their pages.
  mutating func unpin(_ run: FrameRun, released: inout [PinnedBuffer]) {
    var frame = run.frames.lowerBound
    let end = run.frames.upperBound
    while frame < end {
      let number = frame / Chunk.frames
      let stop = min(end, (number + 1) * Chunk.frames)
      if buffers.contains(chunk: number) {
        pinnedFrames -= stop - frame
        buffers.remove(frame..<stop, &chunks, released: &released)
      } else {
        unpin(frame..<stop, of: number)
      }
      frame = stop
    }
  }

  private mutating func unpin(_ frames: Range<Int>, of number: Int) {
    guard var chunk = chunks[number] else { return }
    let freed = decrementPins(of: frames, in: chunk)
    pinnedFrames -= freed
    chunk.pinnedFrames -= freed
    chunks.store(chunk)
    if chunk.pinnedFrames == 0 { release(number) }
  }

  /// - Returns: the number of frames whose last pin was removed.
  private mutating func decrementPins(of frames: Range<Int>, in chunk: ClientChunk) -> Int {
    if pins.areAll(1, frames) {
      pins.set(0, frames)
      discard(frames, of: chunk)
      return frames.count
    }
    var freed = 0
    var first: Int?
    for frame in frames {
      guard pins.base[frame] > 0 else { continue }
      pins.base[frame] -= 1
      if pins.base[frame] == 0 {
        freed += 1
        first = first ?? frame
      } else if let start = first {
        discard(start..<frame, of: chunk)
        first = nil
      }
    }
    if let start = first { discard(start..<frames.upperBound, of: chunk) }
    return freed
  }

  /// Removes the memory of `frames`, whose last pin is gone.
  private mutating func discard(_ frames: Range<Int>, of chunk: ClientChunk) {
    switch chunk.backing {
    case .process: copies.discard(frames, of: chunk.source.owner)
    case .file(let file): files.unmap(frames, of: file)
    }
    if window.areAll(.none, frames) { return }
    // Frames that are still mapped belong to a huge page of which another part is pinned.
    for frame in frames where window.kind(ofFrame: frame).isRemote {
      window.setKind(.none, frame: frame)
    }
  }

  /// Makes a chunk without pins free.
  private mutating func release(_ number: Int) {
    freePinCounts(of: number)
    guard let chunk = chunks[number] else { return }
    copies.release(chunk)
    if chunks.remove(number) { copies.remove(chunk.source.owner) }
  }

  /// Frees the host memory of the pin counts of the chunk that was released before `number`. The
  /// counts of `number` keep theirs, for a client that maps and unmaps the same pages again and
  /// again.
  private mutating func freePinCounts(of number: Int) {
    if let last = lastReleased, last != number, chunks[last] == nil {
      pins.clear(Chunk.frames(of: last))
    }
    lastReleased = number
  }

  // MARK: Accesses to frames that are not mapped

  /// Returns the process or file of the frame at `physical`, and the address or offset there.
  func backing(of physical: PhysicalAddress) -> (backing: ChunkBacking, address: UInt64)? {
    chunks[physical.chunk].map { chunk in
      (chunk.backing, chunk.sourceOffset + physical.rawValue & UInt64(Chunk.size - 1))
    }
  }

  /// Returns the buffer of the frame at `physical`, the offset there, and the number of bytes from
  /// there on whose frames are of the same buffer.
  func buffer(at physical: PhysicalAddress) -> (buffer: PinnedBuffer, offset: UInt64, count: Int)? {
    buffers.buffer(at: physical)
  }

  /// Returns the number of buffers that contain the page at `address` of `space`.
  func bufferCount(at address: UInt64, of space: AddressSpace) -> Int {
    buffers.count(at: address, of: space)
  }

  /// Returns the lock for updates of table entries in the chunk of `physical`.
  func updateLock(of physical: PhysicalAddress) -> EntryUpdateLock? {
    buffers.contains(chunk: physical.chunk)
      ? buffers.updateLock : chunks[physical.chunk]?.updateLock
  }

  /// Makes the frames of `physical`'s chunk behind the end of its truncated file `truncated`.
  /// - Parameter end: the size of the file.
  func markTruncated(from end: UInt64, at physical: PhysicalAddress) {
    if let chunk = chunks[physical.chunk] { files.markTruncated(from: end, of: chunk) }
  }

  // MARK: Pages that files have lost

  /// Sets the function that resolves faults in mapped files. It takes the lock and calls
  /// ``resolveFault(_:at:)``.
  mutating func setFaultResolver(_ resolver: @escaping FilePageFaults.Resolver) {
    files.retained.setResolver(resolver)
  }

  /// Decides what an access to `physical` sees that has found no page table entry.
  /// - Returns: the frames whose accesses are repeated, and the answer.
  mutating func resolveFault(
    _ kind: FilePageFaults.Kind, at physical: PhysicalAddress
  ) -> (frames: Range<Int>, FilePageFaults.Answer) {
    guard let chunk = chunks[physical.chunk] else {
      return (physical.frame..<physical.frame + 1, .file)
    }
    return files.retained.resolve(kind, of: physical.frame, in: chunk)
  }

  // MARK: Copies of processes that end

  /// Returns the pinned frames of `owner` that are to be copied.
  func uncopiedRuns(of owner: ChunkOwner) -> [UncopiedRun] {
    copies.uncopiedRuns(of: owner, in: chunks.chunks(of: owner))
  }

  /// Stores copies of the frames of `run`, where these still are frames of `owner`.
  /// - Returns: the bytes stored.
  mutating func storeCopies(_ contents: [UInt8], of run: UncopiedRun, owner: ChunkOwner) -> Int {
    guard var chunk = chunks[run.chunk], chunk.source.owner == owner else { return 0 }
    defer { chunks.store(chunk) }
    return copies.store(contents, of: run, in: &chunk)
  }

  /// Makes the copies of a process that has ended the contents of its frames.
  func adoptCopies(of owner: ChunkOwner) { copies.adopt(in: chunks.chunks(of: owner)) }

  // MARK: Tables

  /// Assigns a free chunk to tables, for good.
  mutating func allocateTableChunk() -> Int? { chunks.allocateTableChunk() }
}

extension [FrameRun] {
  /// Appends `runs`. Joins the first of them to the last run when it is adjacent to it.
  mutating func append(joining runs: [FrameRun]) {
    for run in runs { append(frames: run.frames) }
  }

  /// Appends `frames`. Extends the last run when they are adjacent to it.
  fileprivate mutating func append(frames: Range<Int>) {
    if let last, last.frames.upperBound == frames.lowerBound {
      self[count - 1] = FrameRun(physical: last.physical, pages: last.pages + frames.count)
    } else {
      append(FrameRun(frames))
    }
  }
}
