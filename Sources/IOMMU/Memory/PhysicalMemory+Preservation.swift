// What stays of a process that ends.
//
// Pages that are pinned survive their process on a real host. Shared memory does so here too. Private
// memory is used in place, so before a process ends its front end asks for a copy of what is still
// pinned. The copy lies at the frame's own place in the reservation and is used only once the
// process's mm is gone: until then the process may still run and its memory is the truth. A DMA write
// between the copy and the end of the process is therefore lost; nobody but a device could see it.

internal import Glibc
package import Host
internal import Synchronization

extension PhysicalMemory {
  /// Copies the pinned pages of `space` into this server, up to the machine's limit for one process.
  /// What is beyond the limit, and what is pinned later, is `gone` when the process is.
  /// - Returns: the bytes copied.
  @discardableResult
  package func preserve(_ space: AddressSpace) -> Int {
    let owner = ChunkDirectory.Owner.process(ObjectIdentifier(space))
    var copied = 0
    for run in directory.withLock({ remoteRuns(of: owner, in: $0) }) {
      // The process may stall reads of its own memory, so they are made without the lock.
      let bytes = [UInt8](unsafeUninitializedCapacity: run.count << Frame.shift) { buffer, count in
        count = space.read(
          at: run.address, into: UnsafeMutableRawBufferPointer(buffer)
        )
      }
      copied += directory.withLock { state in
        keep(bytes, of: run, owner: owner, in: &state)
      }
    }
    return copied
  }

  private struct RemoteRun {
    let place: Int
    let address: UInt64
    let first: Int
    var count: Int
    /// A larger run would need as much memory twice at a time.
    static let maximum = 256
  }

  private func remoteRuns(
    of owner: ChunkDirectory.Owner, in state: borrowing ChunkDirectory
  ) -> [RemoteRun] {
    var runs: [RemoteRun] = []
    var left =
      max(0, limits.preservedBytes - state.preservedBytes[owner, default: 0]) >> Frame.shift
    for place in state.chunks(of: owner) {
      guard let chunk = state.chunks[place] else { continue }
      let first = place * Frame.framesPerChunk
      for frame in first..<first + Frame.framesPerChunk
      where left > 0 && window.kind(ofFrame: frame) == .remote {
        left -= 1
        if let last = runs.last, last.first + last.count == frame, last.place == place,
          last.count < RemoteRun.maximum
        {
          runs[runs.count - 1].count += 1
        } else {
          let address = chunk.fileOffset + UInt64(frame - first) << UInt64(Frame.shift)
          runs.append(RemoteRun(place: place, address: address, first: frame, count: 1))
        }
      }
    }
    return runs
  }

  /// Stores the whole pages of `bytes` at the frames they came from, if those are still theirs.
  private func keep(
    _ bytes: [UInt8], of run: RemoteRun, owner: ChunkDirectory.Owner,
    in state: inout ChunkDirectory
  ) -> Int {
    guard let chunk = state.chunks[run.place], chunk.key.owner == owner else { return 0 }
    if !chunk.hasCopies {
      guard protect(run.place, PROT_READ | PROT_WRITE) else { return 0 }
      state.update(run.place) { $0.hasCopies = true }
    }
    var kept = 0
    for page in 0..<bytes.count >> Frame.shift
    where window.kind(ofFrame: run.first + page) == .remote {
      bytes.withUnsafeBytes { source in
        let place = UnsafeMutableRawBufferPointer(
          start: window.base + (run.first + page) << Frame.shift, count: Frame.size)
        place.copyMemory(from: .init(rebasing: source[(page << Frame.shift)...].prefix(Frame.size)))
      }
      window.setKind(.preserved, frame: run.first + page)
      kept += Frame.size
    }
    state.preservedBytes[owner, default: 0] += kept
    return kept
  }

  /// Makes the copies the frames' contents, if the process is really gone.
  func adoptCopies(of space: AddressSpace) -> Bool {
    guard space.isGone else { return false }
    let owner = ChunkDirectory.Owner.process(ObjectIdentifier(space))
    directory.withLock { state in
      for place in state.chunks(of: owner) {
        let first = place * Frame.framesPerChunk
        for frame in first..<first + Frame.framesPerChunk
        where window.kind(ofFrame: frame) == .preserved {
          window.setKind(.direct, frame: frame)
        }
      }
    }
    return true
  }

  /// Frees copies of frames whose last pin is gone, used or not.
  func discardCopies(
    _ frames: Range<Int>, owner: ChunkDirectory.Owner, in state: inout ChunkDirectory
  ) {
    for frame in frames {
      let kind = window.kind(ofFrame: frame)
      guard kind == .preserved || kind == .direct else { continue }
      window.setKind(.none, frame: frame)
      madvise(window.base + frame << Frame.shift, Frame.size, MADV_DONTNEED)
      state.preservedBytes[owner, default: Frame.size] -= Frame.size
    }
  }

  /// Gives the reservation of a whole chunk to private memory of this server, or takes it back: one host
  /// mapping, however scattered the copies are.
  func protect(_ place: Int, _ protection: Int32) -> Bool {
    let result = mmap(
      window.base + place << Frame.chunkShift, 1 << Frame.chunkShift, protection,
      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0)
    return result != MAP_FAILED
  }
}
