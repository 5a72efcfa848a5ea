// Client pages become frames, and stop being frames.
//
// The kernel's words: pinning is pin_user_pages() and memfd_pin_folios(), a frame is what they return.
// A page has one frame however often it is pinned; pins are counted. Memory of a process is used in
// place. Shared memory is mapped into the reservation, so a DMA to it is a memory copy; the mapping
// keeps the pages when the client unmaps them or ends. What the client can still do to it:
// shrink the file. Pages that are cut off so are `gone` from then on, also when the file grows again,
// until they are pinned anew; on a real host the device would go on using the old page.

internal import Glibc
internal import Host
internal import Synchronization
package import SystemPackage

extension PhysicalMemory {
  /// Makes `pages` pages at `source` frames of physical memory, or counts one more pin of those that
  /// are. Nothing is pinned when it fails.
  /// - Returns: the frames in the order of the pages, adjacent ones joined.
  /// - Throws: `.invalidArgument` for an unaligned source and for files that are not shared memory,
  ///   `.noMemory` at the machine's limits or the host's.
  package func pin(_ source: FrameSource, pages: Int) throws(Errno) -> [FrameRun] {
    let (start, owner, backing) = try Self.resolve(source)
    let (last, overflow) = start.addingReportingOverflow(
      UInt64(truncatingIfNeeded: pages - 1) << UInt64(Frame.shift))
    guard pages > 0, pages <= limits.pinnedFrames, !overflow, last <= UInt64(Int64.max),
      start & UInt64(Frame.size - 1) == 0
    else { throw pages > limits.pinnedFrames ? .noMemory : .invalidArgument }

    let runs = directory.withLock { state -> [FrameRun]? in
      guard state.pinnedFrames + pages <= limits.pinnedFrames else { return nil }
      var runs: [FrameRun] = []
      var (address, left) = (start, pages)
      while left > 0 {
        let first = Int(address >> UInt64(Frame.shift)) & (Frame.framesPerChunk - 1)
        let count = min(left, Frame.framesPerChunk - first)
        let key = ChunkDirectory.Key(owner: owner, index: address >> UInt64(Frame.chunkShift))
        guard !shouldFailAllocation(),
          let place = state.place(for: key, backing: backing, limits: limits)
        else {
          break
        }
        let frame = place * Frame.framesPerChunk + first
        guard pinFrames(frame..<frame + count, of: place, backing: backing, in: &state) else {
          if state.chunks[place]?.pinnedFrames == 0 { release(place, in: &state) }
          break
        }
        runs.append(frames: frame..<frame + count)
        (address, left) = (address + UInt64(count) << UInt64(Frame.shift), left - count)
      }
      guard left == 0 else {
        for run in runs { unpin(run, in: &state) }
        return nil
      }
      return runs
    }
    guard let runs else { throw .noMemory }
    return runs
  }

  /// Takes back one pin of every frame of `run`. No translation may lead to them any more, unless
  /// they are pinned otherwise.
  package func unpin(_ run: FrameRun) {
    directory.withLock { unpin(run, in: &$0) }
  }

  package func unpin(_ runs: [FrameRun]) {
    directory.withLock { state in
      for run in runs { unpin(run, in: &state) }
    }
  }

  /// How often the frame of `physical` is pinned.
  package func pinCount(of physical: PhysicalAddress) -> Int {
    let frame = physical.rawValue >> UInt64(Frame.shift)
    guard frame < 1 << UInt64(addressBits - Frame.shift) else { return 0 }
    return directory.withLock { _ in Int(pins.base[Int(frame)]) }
  }

  /// Frames that are pinned now.
  package var pinnedFrames: Int { directory.withLock { $0.pinnedFrames } }

  /// Host mappings that pinned files take now.
  package var fileMappings: Int { directory.withLock { $0.fileMappings } }

  private static func resolve(
    _ source: FrameSource
  ) throws(Errno) -> (UInt64, ChunkDirectory.Owner, ChunkDirectory.Backing) {
    switch source {
    case .process(let space, let address):
      return (address, .process(ObjectIdentifier(space)), .process(space))
    case .file(let descriptor, let offset):
      let file = try SharedMemoryFile(descriptor)
      let identity = file.identity
      return (offset, .file(device: identity.device, inode: identity.inode), .file(file))
    }
  }

  // MARK: Under the directory's lock

  /// Counts one pin of every frame. False, and nothing changed, when the host has no memory for it.
  private func pinFrames(
    _ frames: Range<Int>, of place: Int, backing: ChunkDirectory.Backing,
    in state: inout ChunkDirectory
  ) -> Bool {
    // Mostly nothing of what becomes pinned is; then no frame needs a look of its own.
    let areFresh = pins.areAll(0, frames)
    guard areFresh || frames.allSatisfy({ pins.base[$0] < .max }) else { return false }
    switch backing {
    case .process where areFresh: window.setKind(.remote, frames: frames)
    case .process:
      for frame in frames where pins.base[frame] == 0 { window.setKind(.remote, frame: frame) }
    case .file(let file):
      guard map(frames, of: place, as: file, in: &state) else { return false }
    }
    let fresh = areFresh ? frames.count : frames.count { pins.base[$0] == 0 }
    if areFresh { pins.set(1, frames) } else { for frame in frames { pins.base[frame] += 1 } }
    state.pinnedFrames += fresh
    state.update(place) { $0.pinnedFrames += fresh }
    return true
  }

  private func unpin(_ run: FrameRun, in state: inout ChunkDirectory) {
    var frame = Int(run.physical.rawValue >> UInt64(Frame.shift))
    let end = frame + run.pages
    while frame < end {
      let place = frame / Frame.framesPerChunk
      let stop = min(end, (place + 1) * Frame.framesPerChunk)
      unpinFrames(frame..<stop, of: place, in: &state)
      frame = stop
    }
  }

  private func unpinFrames(_ frames: Range<Int>, of place: Int, in state: inout ChunkDirectory) {
    guard let chunk = state.chunks[place] else { return }
    let freed = takePins(of: frames, in: chunk, &state)
    state.pinnedFrames -= freed
    state.update(place) { $0.pinnedFrames -= freed }
    if state.chunks[place]?.pinnedFrames == 0 { release(place, in: &state) }
  }

  /// - Returns: the number of frames that are not pinned any more.
  private func takePins(
    of frames: Range<Int>, in chunk: ChunkDirectory.Chunk, _ state: inout ChunkDirectory
  ) -> Int {
    if pins.areAll(1, frames) {
      pins.set(0, frames)
      discard(frames, of: chunk, in: &state)
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
        discard(start..<frame, of: chunk, in: &state)
        first = nil
      }
    }
    if let start = first { discard(start..<frames.upperBound, of: chunk, in: &state) }
    return freed
  }

  /// Frames whose last pin is gone are nothing any more.
  private func discard(
    _ frames: Range<Int>, of chunk: ChunkDirectory.Chunk, in state: inout ChunkDirectory
  ) {
    switch chunk.backing {
    case .process: discardCopies(frames, owner: chunk.key.owner, in: &state)
    case .file(let file): unmap(frames, of: file, in: &state)
    }
    if window.areAll(.none, frames) { return }
    // What is mapped still belongs to a huge page of which another part is pinned.
    for frame in frames where window.kind(ofFrame: frame).isRemote {
      window.setKind(.none, frame: frame)
    }
  }

  private func release(_ place: Int, in state: inout ChunkDirectory) {
    giveBackPins(of: place, in: &state)
    if state.chunks[place]?.hasCopies == true {
      // Should the host refuse, the memory is merely reachable; its kind says that nothing is there.
      _ = protect(place, PROT_NONE)
    }
    state.remove(place)
  }

  /// The counts of a chunk without pins are zeros. Those of one chunk keep their memory, for whoever maps
  /// and unmaps the same pages without a pause.
  private func giveBackPins(of place: Int, in state: inout ChunkDirectory) {
    if let last = state.lastReleased, last != place, state.chunks[last] == nil {
      let first = last * Frame.framesPerChunk
      pins.clear(first..<first + Frame.framesPerChunk)
    }
    state.lastReleased = place
  }
}

extension [FrameRun] {
  /// Appends `frames`, as part of the last run when they follow it.
  fileprivate mutating func append(frames: Range<Int>) {
    let physical = PhysicalAddress(UInt64(frames.lowerBound) << UInt64(Frame.shift))
    if let last,
      last.physical.rawValue + UInt64(last.pages) << UInt64(Frame.shift)
        == physical.rawValue
    {
      self[count - 1] = FrameRun(physical: last.physical, pages: last.pages + frames.count)
    } else {
      append(FrameRun(physical: physical, pages: frames.count))
    }
  }
}
