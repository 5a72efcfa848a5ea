// SPDX-License-Identifier: Apache-2.0

// Host mappings of clients' shared-memory files in the reservation. Their number is bounded,
// because the host bounds the mappings of a process (vm.max_map_count). Frames beyond the bound are
// `remote` and are accessed with pread(2) and pwrite(2).
//
// All frames of a chunk are mapped through one descriptor, so that adjacent frames are one host
// mapping. When a later pin brings a writable descriptor for a file that was mapped read-only, the
// whole chunk is mapped again through the new descriptor.
//
// Pages of files that are mapped for writing are retained (`RetainedFilePages`), where the host
// permits that.
//
// `ClientFrames` owns the mappings. The kind of a frame says whether it is mapped: `mapped`,
// `mappedReadOnly` and `truncated` frames are.

internal import Glibc
internal import Host

struct FileMappings {
  /// Host mappings that exist now.
  private(set) var count = 0
  private let limit: Int
  private let reservation: Reservation
  private let window: FrameWindow
  private let pins: SparseArray<UInt32>
  var retained: RetainedFilePages

  /// - Parameter limit: the highest number of host mappings.
  init(in reservation: Reservation, limits: PhysicalMemory.Limits, limit: Int) {
    self.reservation = reservation
    self.limit = limit
    retained = RetainedFilePages(in: reservation, limits: limits, mappingLimit: limit / 2)
    window = reservation.window
    pins = reservation.pins
  }

  /// Makes `frames` of `chunk` accessible. Frames that are not pinned yet become mapped, or
  /// `remote` when the limit of host mappings is reached.
  /// - Parameter file: the file of `chunk`, through the descriptor of this pin.
  /// - Returns: false, with nothing mapped, when the host refuses to map a huge page.
  mutating func map(
    _ frames: Range<Int>, of chunk: inout ClientChunk, as file: SharedMemoryFile
  ) -> Bool {
    guard case .file(var current) = chunk.backing else { return false }
    if file.isWritable && !current.isWritable {
      chunk.backing = .file(file)
      guard remapWritable(chunk, file) else { return false }
      current = file
    }
    var mapped: [Range<Int>] = []
    for run in unmappedRuns(in: frames.rounded(to: current.granule)) {
      let cost = mappingCost(of: run, granule: current.granule)
      if count + retained.extraMappings + cost <= limit, map(run, of: chunk, current) {
        count += cost
        window.setKind(current.kind, frames: run)
        if current.isWritable { retained.retain(run) }
        mapped.append(run)
      } else if current.granule == 1 {
        // Pinned frames of the run are `truncated` and stay so.
        for frame in run where pins.base[frame] == 0 {
          window.setKind(.remote, frame: frame)
        }
      } else {
        for run in mapped { unmap(run, of: current) }
        return false
      }
    }
    return true
  }

  /// Unmaps `frames`, which have no pins. A huge page stays mapped while another part of it is
  /// pinned.
  mutating func unmap(_ frames: Range<Int>, of file: SharedMemoryFile) {
    let whole = frames.rounded(to: file.granule)
    if pins.areAll(0, whole) { return unmapRun(whole, of: file) }
    var granule = whole.lowerBound
    while granule < whole.upperBound {
      // Adjacent granules are unmapped together, so that a large unpin takes one system call.
      let start = granule
      while granule < whole.upperBound, pins.areAll(0, granule..<granule + file.granule) {
        granule += file.granule
      }
      if start < granule { unmapRun(start..<granule, of: file) }
      if granule < whole.upperBound { granule += file.granule }
    }
  }

  /// Makes the mapped frames behind the end of a truncated file `truncated`. One host mapping of
  /// zeros replaces them, where the SIGBUS handler would make one for each page that is accessed.
  /// - Parameter end: the size of the file.
  func markTruncated(from end: UInt64, of chunk: ClientChunk) {
    guard case .file(let file) = chunk.backing else { return }
    let kept =
      end > chunk.sourceOffset ? (end - chunk.sourceOffset) >> UInt64(Frame.shift) : 0
    guard kept < UInt64(Chunk.frames) else { return }
    let tail = chunk.frames.lowerBound + Int(kept)..<chunk.frames.upperBound
    let runs = mappedRuns(in: tail).flatMap { $0.runs { !retained.isRetained($0) } }
    for run in runs where file.granule == 1 || run.count % file.granule == 0 {
      if reservation.mapAnonymous(run, PROT_READ | PROT_WRITE) {
        window.setKind(.truncated, frames: run)
      }
    }
  }

  private mutating func unmapRun(_ run: Range<Int>, of file: SharedMemoryFile) {
    for run in mappedRuns(in: run) {
      window.setKind(.none, frames: run)
      retained.release(run)
      let cost = mappingCost(of: run, granule: file.granule)
      if reservation.mapAnonymous(run, PROT_NONE) { count -= cost }
    }
  }

  private mutating func remapWritable(_ chunk: ClientChunk, _ file: SharedMemoryFile) -> Bool {
    for run in mappedRuns(in: chunk.frames) {
      guard map(run, of: chunk, file) else { return false }
      window.setKind(.mapped, frames: run)
      retained.retain(run)
    }
    return true
  }

  private func map(_ run: Range<Int>, of chunk: ClientChunk, _ file: SharedMemoryFile) -> Bool {
    file.map(
      at: window.pointer(PhysicalAddress(frame: run.lowerBound)),
      offset: chunk.sourceOffset(ofFrame: run.lowerBound), count: run.count << Frame.shift)
  }

  // MARK: Which frames are mapped

  private func isMapped(_ frame: Int) -> Bool {
    let kind = window.kind(ofFrame: frame)
    return kind == .mapped || kind == .mappedReadOnly || kind == .truncated
  }

  private func mappedRuns(in frames: Range<Int>) -> [Range<Int>] {
    if !frames.isEmpty, window.areAll(.mapped, frames) { return [frames] }
    return frames.runs { isMapped($0) }
  }

  /// Returns the frames that a pin has to map. `truncated` frames are among them, because the pin
  /// is for the page that the file holds now.
  private func unmappedRuns(in frames: Range<Int>) -> [Range<Int>] {
    if window.areAll(.none, frames), pins.areAll(0, frames) { return [frames] }
    return frames.runs { !isMapped($0) && pins.base[$0] == 0 }
      + frames.runs { window.kind(ofFrame: $0) == .truncated }
  }

  /// Returns the number of host mappings that mapping `run` adds and unmapping it removes. It is 0
  /// or -1 when the host merges the run with mapped neighbours.
  private func mappingCost(of run: Range<Int>, granule: Int) -> Int {
    if granule > 1 { return run.count / granule }
    if window.kind(ofFrame: run.lowerBound) == .truncated { return 0 }
    let mask = Chunk.frames - 1
    let joinsBelow = run.lowerBound & mask != 0 && isMapped(run.lowerBound - 1)
    let joinsAbove = run.upperBound & mask != 0 && isMapped(run.upperBound)
    return 1 - (joinsBelow ? 1 : 0) - (joinsAbove ? 1 : 0)
  }
}

extension SharedMemoryFile {
  /// Frames that can only be mapped together: 1, or the frames of one huge page.
  fileprivate var granule: Int { pageSize >> Frame.shift }

  fileprivate var kind: FrameKind { isWritable ? .mapped : .mappedReadOnly }
}

extension Range<Int> {
  /// Returns this range, extended to multiples of `granule`, a power of two.
  fileprivate func rounded(to granule: Int) -> Range<Int> {
    lowerBound & -granule..<(upperBound + granule - 1) & -granule
  }

  /// Returns the maximal parts whose elements all fulfil `condition`.
  func runs(where condition: (Int) -> Bool) -> [Range<Int>] {
    var runs: [Range<Int>] = []
    var first: Int?
    for element in self {
      if condition(element) {
        first = first ?? element
      } else if let start = first {
        runs.append(start..<element)
        first = nil
      }
    }
    if let start = first { runs.append(start..<upperBound) }
    return runs
  }
}
