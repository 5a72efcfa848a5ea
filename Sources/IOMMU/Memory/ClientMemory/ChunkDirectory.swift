// SPDX-License-Identifier: Apache-2.0

// Which GiB of which client each chunk of physical memory stands for.
//
// A chunk belongs to one GiB of one process or file while at least one of its frames is pinned.
// Adjacent GiB of one owner get adjacent chunks where those are free, so that a mapping that
// crosses a GiB boundary remains one run of frames. The lowest suitable chunk is chosen: the same
// calls in the same order give the same physical addresses.
//
// `ClientFrames` owns the directory.

internal import Host
internal import Synchronization

/// The process or file whose pages a chunk's frames are.
enum ChunkOwner: Hashable {
  /// The `AddressSpace` object is unique to an mm, and a chunk keeps the object alive.
  case process(ObjectIdentifier)
  /// The host cannot reuse the identity while a chunk holds a descriptor of the file.
  case file(FileIdentity)
}

/// One GiB of a process or a file.
struct ChunkSource: Hashable {
  let owner: ChunkOwner
  /// The address or file offset, in chunks.
  let index: UInt64
  /// A page that its file has lost keeps its frame. The page that the file has then gets a frame of
  /// the next layer.
  var layer = 0

  /// - Returns: `nil` when the index would overflow.
  func advanced(by distance: Int) -> ChunkSource? {
    let (sum, overflow) = index.addingReportingOverflow(UInt64(bitPattern: Int64(distance)))
    return overflow == (distance < 0) ? ChunkSource(owner: owner, index: sum, layer: layer) : nil
  }

  func inLayer(_ layer: Int) -> ChunkSource {
    ChunkSource(owner: owner, index: index, layer: layer)
  }

  static let layerCount = 64
}

/// How the server reaches the memory of a chunk.
enum ChunkBacking {
  case process(AddressSpace)
  case file(SharedMemoryFile)
}

/// A chunk that stands for client memory.
struct ClientChunk {
  /// The physical address of the chunk, in chunks.
  let number: Int
  let source: ChunkSource
  var backing: ChunkBacking
  var pinnedFrames = 0
  /// Whether the chunk's part of the reservation is memory of this server that holds copies of a
  /// process's pages.
  var hasCopies = false
  let updateLock = EntryUpdateLock()

  var frames: Range<Int> { Chunk.frames(of: number) }

  /// The file offset, or the address in the process, of the chunk's first byte.
  var sourceOffset: UInt64 { source.index << UInt64(Chunk.shift) }

  /// Returns the file offset, or the address in the process, of frame number `frame` of this chunk.
  func sourceOffset(ofFrame frame: Int) -> UInt64 {
    sourceOffset + UInt64(frame - frames.lowerBound) << UInt64(Frame.shift)
  }
}

/// Held from the read to the write of an update of a table entry. One for each chunk, and a chunk
/// has one owner: an owner whose memory stalls delays no other owner.
final class EntryUpdateLock: Sendable {
  let mutex = Mutex<Void>(())
}

struct ChunkDirectory {
  /// The addresses below 4 GiB belong to the platform and hold no memory: they contain the
  /// interrupt address range 0xFEEx_xxxx.
  private static let firstChunk = 4
  /// The number of free chunks above and below a new owner's first chunk, for that owner's next
  /// ones.
  private static let spacing = 8

  private var chunks: [Int: ClientChunk] = [:]
  private var numbers: [ChunkSource: Int] = [:]
  private var chunksOfOwner: [ChunkOwner: Int] = [:]
  /// The number of chunks of layers above 0.
  private var upperChunks = 0
  private var isUsed: [Bool]
  private let limits: PhysicalMemory.Limits

  init(chunkCount: Int, limits: PhysicalMemory.Limits) {
    isUsed = Array(repeating: false, count: chunkCount)
    for chunk in 0..<Self.firstChunk { isUsed[chunk] = true }
    self.limits = limits
  }

  /// Returns the chunk number of each layer of `source`, `nil` for a layer that has none. The last
  /// element is not `nil`.
  func numbersOfLayers(of source: ChunkSource) -> [Int?] {
    let layers = upperChunks == 0 ? 1 : ChunkSource.layerCount
    var found = (0..<layers).map { numbers[source.inLayer($0)] }
    while let last = found.last, last == nil { found.removeLast() }
    return found
  }

  /// Returns the client memory of chunk `number`.
  subscript(number: Int) -> ClientChunk? { chunks[number] }

  /// Returns the chunks of `owner`, lowest first.
  func chunks(of owner: ChunkOwner) -> [ClientChunk] {
    numbers.filter { $0.key.owner == owner }.map(\.value).sorted().compactMap { chunks[$0] }
  }

  /// Returns the number of the chunk for `source`. Assigns a chunk if `source` has none.
  /// - Returns: `nil` when a limit of the machine is reached.
  mutating func chunk(for source: ChunkSource, backing: ChunkBacking) -> Int? {
    if let number = numbers[source] { return number }
    let owned = chunksOfOwner[source.owner, default: 0]
    guard chunks.count < limits.chunks, owned < limits.chunksPerOwner,
      let number = freeChunk(for: source)
    else { return nil }
    isUsed[number] = true
    numbers[source] = number
    chunks[number] = ClientChunk(number: number, source: source, backing: backing)
    if source.layer > 0 { upperChunks += 1 }
    chunksOfOwner[source.owner] = owned + 1
    return number
  }

  private func freeChunk(for source: ChunkSource) -> Int? {
    if let before = source.advanced(by: -1), let chunk = numbers[before], isFree(chunk + 1) {
      return chunk + 1
    }
    if let after = source.advanced(by: 1), let chunk = numbers[after], isFree(chunk - 1) {
      return chunk - 1
    }
    var first: Int?
    var run = 0
    for chunk in Self.firstChunk..<isUsed.count {
      run = isUsed[chunk] ? 0 : run + 1
      if run == 1, first == nil { first = chunk }
      if run == 2 * Self.spacing { return chunk - Self.spacing }
    }
    return first
  }

  private func isFree(_ chunk: Int) -> Bool { isUsed.indices.contains(chunk) && !isUsed[chunk] }

  /// Assigns the lowest free chunk to tables. The chunk is never released.
  /// - Returns: `nil` when no chunk is free.
  mutating func allocateTableChunk() -> Int? {
    guard let chunk = isUsed.firstIndex(of: false) else { return nil }
    isUsed[chunk] = true
    return chunk
  }

  /// Assigns the lowest free chunk to frames that the kernel keeps pinned.
  /// - Returns: `nil` when no chunk is free.
  mutating func allocateBufferChunk() -> Int? { allocateTableChunk() }

  /// Makes a chunk of ``allocateBufferChunk()`` free again.
  mutating func freeBufferChunk(_ number: Int) { isUsed[number] = false }

  /// Replaces what is stored of a chunk that stands for client memory.
  mutating func store(_ chunk: ClientChunk) { chunks[chunk.number] = chunk }

  /// Makes chunk `number` free again.
  /// - Returns: whether it was the last chunk of its owner.
  mutating func remove(_ number: Int) -> Bool {
    guard let chunk = chunks.removeValue(forKey: number) else { return false }
    numbers[chunk.source] = nil
    if chunk.source.layer > 0 { upperChunks -= 1 }
    isUsed[number] = false
    let owner = chunk.source.owner
    if let count = chunksOfOwner[owner], count > 1 {
      chunksOfOwner[owner] = count - 1
      return false
    }
    chunksOfOwner[owner] = nil
    return true
  }
}
