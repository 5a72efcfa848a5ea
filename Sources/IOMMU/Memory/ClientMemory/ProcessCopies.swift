// SPDX-License-Identifier: Apache-2.0

// Copies of the pinned private memory of processes that end.
//
// On a real host, pages that are pinned outlive their process. Shared memory does so here too.
// Private memory is used in place, so a front end asks for a copy of what is still pinned before a
// process ends. The copy is stored in the reservation, at the physical address of the frame itself,
// and is used only once the process's mm is gone: until then the process can still run, and its
// memory is the current contents. A DMA write between the copy and the end of the process is
// therefore lost. Only a device could observe the loss.
//
// `ClientFrames` owns the copies.

internal import Glibc

/// Consecutive pinned frames of a process that have no copy.
struct UncopiedRun {
  /// The number of the chunk that holds the frames.
  let chunk: Int
  /// The address of the first page in the process.
  let address: UInt64
  var frames: Range<Int>
  /// The largest number of frames in a run. A run's memory exists twice while it is copied.
  static let maximum = 256
}

struct ProcessCopies {
  private let reservation: Reservation
  private let window: FrameWindow
  private let limit: Int
  /// The bytes of copies, by process.
  private var bytes: [ChunkOwner: Int] = [:]

  /// - Parameter limit: the bytes of copies that one process may have.
  init(in reservation: Reservation, limit: Int) {
    self.reservation = reservation
    self.limit = limit
    window = reservation.window
  }

  /// Returns the frames of `owner` that are to be copied, up to the limit.
  /// - Parameter chunks: all chunks of `owner`.
  func uncopiedRuns(of owner: ChunkOwner, in chunks: [ClientChunk]) -> [UncopiedRun] {
    var runs: [UncopiedRun] = []
    var left = max(0, limit - bytes[owner, default: 0]) >> Frame.shift
    for chunk in chunks {
      for frame in chunk.frames where left > 0 && window.kind(ofFrame: frame) == .remote {
        left -= 1
        if let last = runs.last, last.frames.upperBound == frame, last.chunk == chunk.number,
          last.frames.count < UncopiedRun.maximum
        {
          runs[runs.count - 1].frames = last.frames.lowerBound..<frame + 1
        } else {
          runs.append(
            UncopiedRun(
              chunk: chunk.number, address: chunk.sourceOffset(ofFrame: frame),
              frames: frame..<frame + 1))
        }
      }
    }
    return runs
  }

  /// Stores the whole pages of `contents` as copies of the frames of `run` that are still pinned.
  /// - Parameter chunk: the chunk that holds the frames.
  /// - Returns: the bytes stored.
  mutating func store(
    _ contents: [UInt8], of run: UncopiedRun, in chunk: inout ClientChunk
  ) -> Int {
    if !chunk.hasCopies {
      guard reservation.mapAnonymous(chunk.frames, PROT_READ | PROT_WRITE) else { return 0 }
      chunk.hasCopies = true
    }
    var stored = 0
    for page in 0..<contents.count >> Frame.shift {
      let frame = run.frames.lowerBound + page
      guard window.kind(ofFrame: frame) == .remote else { continue }
      contents.withUnsafeBytes { source in
        let copy = UnsafeMutableRawBufferPointer(
          start: window.pointer(PhysicalAddress(frame: frame)), count: Frame.size)
        copy.copyMemory(from: .init(rebasing: source[(page << Frame.shift)...].prefix(Frame.size)))
      }
      window.setKind(.copied, frame: frame)
      stored += Frame.size
    }
    bytes[chunk.source.owner, default: 0] += stored
    return stored
  }

  /// Makes the copies of a process that has ended the contents of its frames.
  /// - Parameter chunks: all chunks of the process.
  func adopt(in chunks: [ClientChunk]) {
    for chunk in chunks {
      for frame in chunk.frames where window.kind(ofFrame: frame) == .copied {
        window.setKind(.mapped, frame: frame)
      }
    }
  }

  /// Frees the copies of `frames`, whose last pin is gone.
  mutating func discard(_ frames: Range<Int>, of owner: ChunkOwner) {
    for frame in frames {
      let kind = window.kind(ofFrame: frame)
      guard kind == .copied || kind == .mapped else { continue }
      window.setKind(.none, frame: frame)
      reservation.discard(frame..<frame + 1)
      bytes[owner, default: Frame.size] -= Frame.size
    }
  }

  /// Removes the memory for copies from a chunk that is released.
  func release(_ chunk: ClientChunk) {
    guard chunk.hasCopies else { return }
    // When the host refuses, the memory stays accessible, but the frames have the kind `none`.
    _ = reservation.mapAnonymous(chunk.frames, PROT_NONE)
  }

  /// Ends the accounting of a process without chunks.
  mutating func remove(_ owner: ChunkOwner) { bytes[owner] = nil }
}
