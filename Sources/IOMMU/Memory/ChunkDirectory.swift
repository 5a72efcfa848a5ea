// Which GiB of which client every chunk of physical memory stands for.
//
// A chunk belongs to a key, (process or file, address >> 30), for as long as one of its frames is
// pinned. Neighbouring chunks of one owner get neighbouring places when those are free, so that a
// mapping that crosses a GiB stays one run. Places are chosen lowest first: the same calls in the
// same order give the same addresses.

internal import Host

struct ChunkDirectory {
  enum Owner: Hashable {
    /// The object's identity is the mm's, and a chunk keeps the object alive.
    case process(ObjectIdentifier)
    /// The pair cannot be reused while a chunk holds a descriptor of the file.
    case file(device: UInt64, inode: UInt64)
  }

  struct Key: Hashable {
    let owner: Owner
    /// Address or file offset, in chunks.
    let index: UInt64

    func advanced(by distance: Int) -> Key? {
      let (sum, overflow) = index.addingReportingOverflow(UInt64(bitPattern: Int64(distance)))
      return overflow == (distance < 0) ? Key(owner: owner, index: sum) : nil
    }
  }

  enum Backing {
    case process(AddressSpace)
    case file(SharedMemoryFile)
  }

  struct Chunk {
    let key: Key
    var backing: Backing
    var pinnedFrames = 0
    /// A process's chunk of which a copy was taken.
    var hasCopies = false
    /// For updates of entries in this chunk.
    let entries = EntryLock()
  }

  /// The platform's own range below 4 GiB, with the interrupt window 0xFEEx_xxxx, holds no memory.
  private static let firstChunk = 4
  /// Room left above a new owner's chunk for that owner's next ones.
  private static let spacing = 8

  private(set) var chunks: [Int: Chunk] = [:]
  private var places: [Key: Int] = [:]
  private var chunksOfOwner: [Owner: Int] = [:]
  private var isUsed: [Bool]
  private let fileMappingLimit: Int

  var pinnedFrames = 0
  /// Host mappings that pinned files need now.
  var fileMappings = 0
  /// A chunk whose counts of pins still have memory although nothing in it may be pinned any more.
  var lastReleased: Int?
  /// Bytes of copies kept for processes that end, by process.
  var preservedBytes: [Owner: Int] = [:]

  init(chunkCount: Int, fileMappings: Int) {
    isUsed = Array(repeating: false, count: chunkCount)
    for chunk in 0..<Self.firstChunk { isUsed[chunk] = true }
    fileMappingLimit = fileMappings
  }

  func mayMap(_ more: Int) -> Bool { fileMappings + more <= fileMappingLimit }

  func place(of key: Key) -> Int? { places[key] }

  func chunks(of owner: Owner) -> [Int] {
    places.filter { $0.key.owner == owner }.map(\.value).sorted()
  }

  /// The chunk of `key`, made if there is none yet. Nil at a limit.
  mutating func place(
    for key: Key, backing: Backing, limits: PhysicalMemory.Limits
  ) -> Int? {
    if let place = places[key] { return place }
    let owned = chunksOfOwner[key.owner, default: 0]
    guard chunks.count < limits.chunks, owned < limits.chunksPerOwner,
      let place = freePlace(for: key)
    else { return nil }
    isUsed[place] = true
    places[key] = place
    chunks[place] = Chunk(key: key, backing: backing)
    chunksOfOwner[key.owner] = owned + 1
    return place
  }

  private func freePlace(for key: Key) -> Int? {
    if let before = key.advanced(by: -1), let place = places[before], isFree(place + 1) {
      return place + 1
    }
    if let after = key.advanced(by: 1), let place = places[after], isFree(place - 1) {
      return place - 1
    }
    var first: Int?
    var run = 0
    for place in Self.firstChunk..<isUsed.count {
      run = isUsed[place] ? 0 : run + 1
      if run == 1, first == nil { first = place }
      if run == 2 * Self.spacing { return place - Self.spacing }
    }
    return first
  }

  private func isFree(_ place: Int) -> Bool { isUsed.indices.contains(place) && !isUsed[place] }

  /// The lowest free chunk, for good, as RAM.
  mutating func takeTableChunk() -> Int? {
    guard let place = isUsed.firstIndex(of: false) else { return nil }
    isUsed[place] = true
    return place
  }

  mutating func update(_ place: Int, _ change: (inout Chunk) -> Void) {
    guard var chunk = chunks[place] else { return }
    change(&chunk)
    chunks[place] = chunk
  }

  mutating func remove(_ place: Int) {
    guard let chunk = chunks.removeValue(forKey: place) else { return }
    places[chunk.key] = nil
    isUsed[place] = false
    let owner = chunk.key.owner
    if let count = chunksOfOwner[owner], count > 1 {
      chunksOfOwner[owner] = count - 1
    } else {
      chunksOfOwner[owner] = nil
      preservedBytes[owner] = nil
    }
  }
}
