// Shared memory in the reservation: which frames of a file's chunk are mapped, and their cost in host
// mappings (vm.max_map_count), which is bounded. All functions are called under the directory's lock.
//
// One chunk maps its file through one descriptor, so that what is adjacent is one host mapping. When
// a later pin brings a writable descriptor for what was read-only, the whole chunk changes over.

internal import Glibc
internal import Host

extension PhysicalMemory {
  /// Makes `frames` reachable. Frames that are not pinned yet become mapped; those beyond the budget
  /// of host mappings are left to pread and pwrite.
  /// - Returns: false, with nothing mapped, when the host refuses a huge page.
  func map(
    _ frames: Range<Int>, of place: Int, as file: SharedMemoryFile, in state: inout ChunkDirectory
  ) -> Bool {
    guard let chunk = state.chunks[place], case .file(var current) = chunk.backing else {
      return false
    }
    if file.isWritable && !current.isWritable {
      state.update(place) { $0.backing = .file(file) }
      guard remap(place, of: chunk, as: file) else { return false }
      current = file
    }
    let base = chunk.fileOffset &- UInt64(place) << UInt64(Frame.chunkShift)
    var mapped: [Range<Int>] = []
    for run in unmappedRuns(in: frames.rounded(to: current.granule)) {
      let cost = mappingCost(of: run, granule: current.granule)
      let offset = base &+ UInt64(run.lowerBound) << UInt64(Frame.shift)
      let isMapped =
        state.mayMap(cost)
        && current.map(
          at: window.base + run.lowerBound << Frame.shift, offset: offset,
          count: run.count << Frame.shift)
      if isMapped {
        state.fileMappings += cost
        window.setKind(current.kind, frames: run)
        mapped.append(run)
      } else if current.granule == 1 {
        // Frames of the run that are pinned (lost ones) stay what they are.
        for frame in run where pins.base[frame] == 0 {
          window.setKind(.remote, frame: frame)
        }
      } else {
        for run in mapped { unmap(run, of: current, in: &state) }
        return false
      }
    }
    return true
  }

  /// Takes frames without pins out of the reservation, as far as no pinned frame shares their page.
  func unmap(_ frames: Range<Int>, of file: SharedMemoryFile, in state: inout ChunkDirectory) {
    let whole = frames.rounded(to: file.granule)
    if isDiscardable(whole) { return unmapRun(whole, of: file, in: &state) }
    var granule = whole.lowerBound
    while granule < whole.upperBound {
      // Join granules that can go together, so that a large unpin is one system call.
      let start = granule
      while granule < whole.upperBound, isDiscardable(granule..<granule + file.granule) {
        granule += file.granule
      }
      if start < granule { unmapRun(start..<granule, of: file, in: &state) }
      if granule < whole.upperBound { granule += file.granule }
    }
  }

  /// The client cut its file short: everything behind the end is `lost`, as one host mapping of
  /// zeros rather than one for each page that the SIGBUS handler found.
  func dropTail(behind end: UInt64, of place: Int, in state: inout ChunkDirectory) {
    guard let chunk = state.chunks[place], case .file(let file) = chunk.backing else { return }
    let kept = end > chunk.fileOffset ? (end - chunk.fileOffset) >> UInt64(Frame.shift) : 0
    guard kept < UInt64(Frame.framesPerChunk) else { return }
    let first = place * Frame.framesPerChunk
    let tail = first + Int(kept)..<first + Frame.framesPerChunk
    for run in mappedRuns(in: tail) where file.granule == 1 || run.count % file.granule == 0 {
      let result = mmap(
        window.base + run.lowerBound << Frame.shift, run.count << Frame.shift,
        PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0)
      if result != MAP_FAILED { window.setKind(.lost, frames: run) }
    }
  }

  private func unmapRun(
    _ run: Range<Int>, of file: SharedMemoryFile, in state: inout ChunkDirectory
  ) {
    for run in mappedRuns(in: run) {
      window.setKind(.none, frames: run)
      let cost = mappingCost(of: run, granule: file.granule)
      let result = mmap(
        window.base + run.lowerBound << Frame.shift, run.count << Frame.shift, PROT_NONE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0)
      if result != MAP_FAILED { state.fileMappings -= cost }
    }
  }

  private func remap(
    _ place: Int, of chunk: ChunkDirectory.Chunk, as file: SharedMemoryFile
  ) -> Bool {
    let first = place * Frame.framesPerChunk
    for run in mappedRuns(in: first..<first + Frame.framesPerChunk) {
      let offset = chunk.fileOffset + UInt64(run.lowerBound - first) << UInt64(Frame.shift)
      guard
        file.map(
          at: window.base + run.lowerBound << Frame.shift, offset: offset,
          count: run.count << Frame.shift)
      else { return false }
      window.setKind(.direct, frames: run)
    }
    return true
  }

  // MARK: Which frames are mapped

  private func isMapped(_ frame: Int) -> Bool {
    let kind = window.kind(ofFrame: frame)
    return kind == .direct || kind == .directReadOnly || kind == .lost
  }

  private func mappedRuns(in frames: Range<Int>) -> [Range<Int>] {
    if !frames.isEmpty, window.areAll(.direct, frames) { return [frames] }
    return frames.runs { isMapped($0) }
  }

  /// Also frames that were lost: a new pin asks for what the file holds now.
  private func unmappedRuns(in frames: Range<Int>) -> [Range<Int>] {
    if window.areAll(.none, frames), pins.areAll(0, frames) { return [frames] }
    return frames.runs { !isMapped($0) && pins.base[$0] == 0 }
      + frames.runs { window.kind(ofFrame: $0) == .lost }
  }

  private func isDiscardable(_ frames: Range<Int>) -> Bool {
    pins.areAll(0, frames)
  }

  /// By how much the host's mappings grow when `run` becomes mapped, and shrink when it ceases to
  /// be: a run between two mapped neighbours joins them.
  private func mappingCost(of run: Range<Int>, granule: Int) -> Int {
    if granule > 1 { return run.count / granule }
    if window.kind(ofFrame: run.lowerBound) == .lost { return 0 }
    let mask = Frame.framesPerChunk - 1
    let joinsBelow = run.lowerBound & mask != 0 && isMapped(run.lowerBound - 1)
    let joinsAbove = run.upperBound & mask != 0 && isMapped(run.upperBound)
    return 1 - (joinsBelow ? 1 : 0) - (joinsAbove ? 1 : 0)
  }
}

extension SharedMemoryFile {
  /// Frames that can only be mapped together: 1, or the frames of one huge page.
  fileprivate var granule: Int { pageSize >> Frame.shift }

  var kind: FrameKind { isWritable ? .direct : .directReadOnly }
}

extension ChunkDirectory.Chunk {
  /// The file offset, or the process's address, of the chunk's first byte.
  var fileOffset: UInt64 { key.index << UInt64(Frame.chunkShift) }
}

extension Range<Int> {
  /// Extended to multiples of `granule`, a power of two.
  fileprivate func rounded(to granule: Int) -> Range<Int> {
    lowerBound & -granule..<(upperBound + granule - 1) & -granule
  }

  /// The maximal parts whose elements all fulfil `condition`.
  fileprivate func runs(where condition: (Int) -> Bool) -> [Range<Int>] {
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
