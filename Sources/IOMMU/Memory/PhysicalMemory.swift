// SPDX-License-Identifier: Apache-2.0

// The machine's physical memory is one reservation of this server's address space: the byte at
// physical address `pa` is the byte at `base + pa`, if the server can reach it directly. A
// translation therefore ends in an addition, whatever backs the memory.
//
// The reservation is divided into chunks of 1 GiB. A chunk is either RAM of this server, which
// holds the tables that drivers build, or it stands for one GiB of a client's process or file. A
// client page has the same offset in its chunk as in its GiB of the client: a page that is pinned
// twice has one frame, and pages that are adjacent and aligned for the client are adjacent and
// aligned here, which superpages need.
//
// Only client memory can become unavailable, and an access to it that fails has the result
// `.gone`: its file was truncated and the page is not retained (SIGBUS, see CLinux), its page is
// unmapped, or its process has ended. No such access terminates the server.
//
// Locks: `clients` guards which frames stand for which client pages, `tables` the allocator of
// table memory, `entryLock` entries of more than one word. `clients` is the innermost: it may be
// taken by a thread that holds `tables` or an `EntryUpdateLock`. No other two are held together.

internal import Glibc
package import Host
internal import Synchronization
package import SystemPackage

package final class PhysicalMemory: Sendable {
  /// The memory that one machine may use. A client's call that would exceed a limit fails with
  /// ENOMEM.
  package struct Limits: Sendable {
    /// log2 of the size of physical memory (VT-d: HAW), at most 46: a process has 2^47 bytes of
    /// address space for all its machines and everything else. The host may grant less.
    package var addressBits = 42
    /// Pages of 4 KiB for tables.
    package var tablePages = 1 << 18
    /// Client chunks: the number of different GiB of clients that have pinned pages at the same
    /// time.
    package var chunks = 4_000
    /// Client chunks of one process or one file.
    package var chunksPerOwner = 1_024
    /// Pinned frames.
    package var pinnedFrames = 1 << 26
    /// Host mappings for files. Beyond the limit files are accessed with pread(2) and pwrite(2).
    /// `nil` is half of vm.max_map_count.
    package var fileMappings: Int?
    /// Bytes of a process that are kept when the process ends.
    package var preservedBytes = 256 << 20
    /// How pages of files are pinned.
    package var pinning = PinningMode.exact

    package init() {}
  }

  /// How client memory is pinned.
  package enum PinningMode: Sendable {
    /// By the kernel, where the host permits that: a frame keeps the page that it was made for.
    case exact
    /// A frame stands for the page that the file or the process has at the time of an access.
    case inPlace
  }

  /// log2 of the size of physical memory (VT-d: HAW).
  package let addressBits: Int
  /// The view of memory that walks and copies use, without a lock.
  let window: FrameWindow
  private let limits: Limits
  private let reservation: Reservation
  private let clients: GuardedClientFrames
  private let tables: Mutex<TableArena>
  private let entryLock = Mutex<Void>(())
  /// Fault injection: called before each allocation of a table and of the frames of a chunk.
  private let shouldFailAllocation: @Sendable () -> Bool

  /// - Parameter shouldFailAllocation: makes an allocation fail with ENOMEM where it returns true.
  /// - Throws: `.noMemory` when the host does not grant even 64 GiB of address space.
  package init(
    _ limits: Limits = Limits(),
    shouldFailAllocation: @escaping @Sendable () -> Bool = { false }
  ) throws(Errno) {
    self.limits = limits
    self.shouldFailAllocation = shouldFailAllocation
    reservation = try Reservation(addressBits: min(limits.addressBits, 46))
    addressBits = reservation.addressBits
    window = reservation.window
    clients = GuardedClientFrames(
      ClientFrames(
        in: reservation, limits: limits,
        fileMappings: limits.fileMappings ?? Self.defaultFileMappings()),
      window: window)
    tables = Mutex(TableArena(limit: limits.tablePages))
  }

  /// Returns half of the host mappings that one process may have. The other half is for everything
  /// else.
  private static func defaultFileMappings() -> Int {
    let text = try? ProcFile.read("/proc/sys/vm/max_map_count")
    let maximum = text.flatMap { Int($0.prefix(while: \.isNumber)) } ?? 65_530
    return maximum / 2
  }

  // MARK: Client pages

  /// Pins `pages` pages at `source`: makes them frames, or adds a pin to the frames that they
  /// already have. Pins nothing when it fails.
  /// - Returns: the frames in the order of the pages, with adjacent ones joined.
  /// - Throws: `.invalidArgument` for an unaligned source and for a file that is not shared memory,
  ///   `.noMemory` at a limit of the machine or of the host.
  package func pin(_ source: FrameSource, pages: Int) throws(Errno) -> [FrameRun] {
    guard let (start, owner, backing) = try Self.resolve(source) else {
      guard case .buffer(let buffer) = source, !shouldFailAllocation(),
        let run = clients.state.withLock({ $0.pin(buffer) })
      else { throw .noMemory }
      return [run]
    }
    let (last, overflow) = start.addingReportingOverflow(
      UInt64(truncatingIfNeeded: pages - 1) << UInt64(Frame.shift))
    guard pages > 0, pages <= limits.pinnedFrames, !overflow, last <= UInt64(Int64.max),
      start & UInt64(Frame.size - 1) == 0
    else { throw pages > limits.pinnedFrames ? .noMemory : .invalidArgument }
    var runs: [FrameRun] = []
    var (address, left) = (start, pages)
    // The lock is held for one part of the pages at a time, because the kernel needs a microsecond
    // to pin or unpin a few pages.
    while left > 0 {
      let frame = Int(address >> UInt64(Frame.shift)) & (Chunk.frames - 1)
      let count = min(left, Self.largestPart - frame & (Self.largestPart - 1))
      let isInNewChunk = left == pages || frame == 0
      let pinned = clients.state.withLock {
        $0.pin(
          pages: count, at: address, of: owner, backing: backing,
          shouldFail: isInNewChunk ? shouldFailAllocation : { false })
      }
      guard let pinned else {
        unpin(runs)
        throw .noMemory
      }
      if runs.isEmpty { runs = pinned } else { runs.append(joining: pinned) }
      (address, left) = (address + UInt64(count) << UInt64(Frame.shift), left - count)
    }
    return runs
  }

  /// In frames, a power of two.
  private static let largestPart = 1 << 14

  /// - Returns: `nil` for a buffer, whose frames belong to no chunk of a process or file.
  private static func resolve(
    _ source: FrameSource
  ) throws(Errno) -> (start: UInt64, ChunkOwner, ChunkBacking)? {
    switch source {
    case .buffer: return nil
    case .process(let space, let address):
      return (address, .process(ObjectIdentifier(space)), .process(space))
    case .file(let descriptor, let offset):
      let file = try SharedMemoryFile(descriptor)
      return (offset, .file(file.identity), .file(file))
    }
  }

  /// Removes one pin from every frame of `run`. No translation may still lead to a frame that loses
  /// its last pin.
  package func unpin(_ run: FrameRun) {
    unpin([run])
  }

  package func unpin(_ runs: [FrameRun]) {
    // Released after the lock.
    var released: [PinnedBuffer] = []
    if runs.contains(where: { $0.pages > Self.largestPart }) {
      for run in runs { unpinParts(of: run, released: &released) }
      return
    }
    clients.state.withLock { state in
      for run in runs { state.unpin(run, released: &released) }
    }
  }

  private func unpinParts(of run: FrameRun, released: inout [PinnedBuffer]) {
    var first = run.frames.lowerBound
    while first < run.frames.upperBound {
      let end = min(run.frames.upperBound, first + Self.largestPart)
      clients.state.withLock { $0.unpin(FrameRun(first..<end), released: &released) }
      first = end
    }
  }

  /// Returns whether the frame at `physical` was pinned as the page at `address` of `space`, by the
  /// kernel, and that page has not been replaced since, as far as the contents show.
  package func isBuffer(
    _ physical: PhysicalAddress, at address: UInt64, of space: AddressSpace
  ) -> Bool {
    guard let (buffer, offset, _) = buffer(at: physical), buffer.space === space,
      buffer.address + offset == address
    else { return false }
    return withUnsafeTemporaryAllocation(byteCount: 2 * Frame.size, alignment: 8) { bytes in
      let pinned = UnsafeMutableRawBufferPointer(rebasing: bytes[..<Frame.size])
      let present = UnsafeMutableRawBufferPointer(rebasing: bytes[Frame.size...])
      return buffer.read(at: offset, into: pinned)
        && space.read(at: address, into: present) == Frame.size
        && pinned.elementsEqual(present)
    }
  }

  /// Returns the number of pins by the kernel of the page at `address` of `space`.
  package func bufferCount(at address: UInt64, of space: AddressSpace) -> Int {
    clients.state.withLock { $0.bufferCount(at: address, of: space) }
  }

  /// Returns the number of pins of the frame that holds `physical`.
  package func pinCount(of physical: PhysicalAddress) -> Int {
    guard physical.rawValue >> UInt64(addressBits) == 0 else { return 0 }
    return clients.state.withLock { $0.pinCount(of: physical.frame) }
  }

  /// The number of frames that are pinned now.
  package var pinnedFrames: Int { clients.state.withLock { $0.pinnedFrames } }

  /// The number of host mappings that pinned files take now.
  package var fileMappings: Int { clients.state.withLock { $0.fileMappings } }

  /// The number of runs of file pages that the kernel keeps pinned now.
  var retainedRuns: Int { clients.state.withLock { $0.retainedRuns } }

  /// Copies the pinned pages of `space`, which is about to end, up to the machine's limit for one
  /// process. Pages beyond the limit, and pages pinned later, are `gone` once the process has
  /// ended.
  /// - Returns: the bytes copied.
  @discardableResult
  package func preserve(_ space: AddressSpace) -> Int {
    let owner = ChunkOwner.process(ObjectIdentifier(space))
    var copied = 0
    for run in clients.state.withLock({ $0.uncopiedRuns(of: owner) }) {
      // The process can stall reads of its memory, so they are made without the lock.
      let size = run.frames.count << Frame.shift
      let contents = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
        count = space.read(at: run.address, into: UnsafeMutableRawBufferPointer(buffer))
      }
      copied += clients.state.withLock { $0.storeCopies(contents, of: run, owner: owner) }
    }
    return copied
  }

  // MARK: Tables

  /// Allocates a zeroed table of 2^`sizeShift` bytes (4 KiB to 1 GiB), aligned to its size.
  /// - Throws: `.noMemory` at the machine's limit.
  package func allocateTable(sizeShift: Int = Frame.shift) throws(Errno) -> PhysicalAddress {
    guard (Frame.shift...Chunk.shift).contains(sizeShift) else { throw .invalidArgument }
    if shouldFailAllocation() { throw .noMemory }
    let order = sizeShift - Frame.shift
    let frame = tables.withLock { arena -> Int? in
      guard arena.allows(order: order) else { return nil }
      if let frame = arena.allocate(order: order) { return frame }
      guard let chunk = addTableChunk() else { return nil }
      arena.addChunk(chunk)
      return arena.allocate(order: order)
    }
    guard let frame else { throw .noMemory }
    let physical = PhysicalAddress(frame: frame)
    assert(isClear(physical, sizeShift), "a free block of table memory holds only zeros")
    window.setKind(.mapped, frames: frame..<frame + 1 << order)
    return physical
  }

  /// Frees a table that `allocateTable` returned. No unit may still hold its address.
  /// - Parameter isClear: whether the table is known to hold only zeros.
  package func freeTable(
    _ physical: PhysicalAddress, sizeShift: Int = Frame.shift, isClear: Bool = false
  ) {
    let order = sizeShift - Frame.shift
    window.setKind(.none, frames: physical.frame..<physical.frame + 1 << order)
    if !isClear { memset(window.pointer(physical), 0, 1 << sizeShift) }
    tables.withLock { $0.free(physical.frame, order: order) }
  }

  /// The number of pages that hold tables now.
  package var tablePagesInUse: Int { tables.withLock { $0.pagesInUse } }

  private func isClear(_ physical: PhysicalAddress, _ sizeShift: Int) -> Bool {
    let first = window.pointer(physical).assumingMemoryBound(to: UInt8.self)
    // The first byte is zero, and every byte equals the one before it.
    return first[0] == 0 && memcmp(first, first + 1, 1 << sizeShift - 1) == 0
  }

  /// Makes one more chunk RAM of this server.
  /// - Returns: its frames. `nil` when no chunk is free or the host has no memory.
  private func addTableChunk() -> Range<Int>? {
    guard let chunk = clients.state.withLock({ $0.allocateTableChunk() }) else { return nil }
    let frames = Chunk.frames(of: chunk)
    // When the host refuses, the chunk stays unused.
    guard reservation.mapAnonymous(frames, PROT_READ | PROT_WRITE) else { return nil }
    return frames
  }

  // MARK: Entries of configuration tables

  /// Loads the entry of `Count` words at `physical`, a multiple of the entry's size, from RAM of
  /// this server.
  ///
  /// Hardware fetches a configuration entry of up to 64 bytes as one cache line, and software can
  /// store one at once (MOVDIR64B). Entries that are loaded and stored here are never seen
  /// half-changed either. A unit loads them only when its configuration cache misses, so one lock
  /// serves all entries.
  /// - Returns: `nil` when there is no RAM at `physical`.
  package func loadEntry<let Count: Int>(
    _ physical: PhysicalAddress, as type: InlineArray<Count, UInt64>.Type = InlineArray.self
  ) -> InlineArray<Count, UInt64>? {
    entryLock.withLock { _ in
      var words = InlineArray<Count, UInt64>(repeating: 0)
      for index in words.indices {
        guard let word = window.load(PhysicalAddress(physical.rawValue + UInt64(index) * 8)) else {
          return nil
        }
        words[index] = word
      }
      return words
    }
  }

  /// Stores an entry in a table that ``allocateTable(sizeShift:)`` returned.
  package func storeEntry<let Count: Int>(
    _ words: InlineArray<Count, UInt64>, at physical: PhysicalAddress
  ) {
    entryLock.withLock { _ in
      for index in words.indices {
        window.store(words[index], at: PhysicalAddress(physical.rawValue + UInt64(index) * 8))
      }
    }
  }

  /// Stores an entry of one word in a table that ``allocateTable(sizeShift:)`` returned.
  package func storeEntry(_ entry: UInt64, at physical: PhysicalAddress) {
    window.store(entry, at: physical)
  }

  // MARK: Client memory that is not mapped

  /// Returns the process or file of the frame at `physical`, retained for the access that follows,
  /// and the address or offset there.
  func backing(of physical: PhysicalAddress) -> (backing: ChunkBacking, address: UInt64)? {
    clients.state.withLock { $0.backing(of: physical) }
  }

  /// Returns the buffer of the frame at `physical`, retained for the access that follows.
  func buffer(at physical: PhysicalAddress) -> (buffer: PinnedBuffer, offset: UInt64, count: Int)? {
    guard window.kind(of: physical) == .pinned else { return nil }
    return clients.state.withLock { $0.buffer(at: physical) }
  }

  /// Returns the lock for updates of table entries in the chunk of `physical`.
  func updateLock(of physical: PhysicalAddress) -> EntryUpdateLock? {
    clients.state.withLock { $0.updateLock(of: physical) }
  }

  /// Makes the frames of `physical`'s chunk behind the end of its truncated file `truncated`.
  func markTruncated(from end: UInt64, at physical: PhysicalAddress) {
    clients.state.withLock { $0.markTruncated(from: end, at: physical) }
  }

  /// Makes the copies of `space` the contents of its frames, if the process has ended.
  /// - Returns: whether it has.
  func adoptCopies(of space: AddressSpace) -> Bool {
    guard space.isGone else { return false }
    clients.state.withLock { $0.adoptCopies(of: .process(ObjectIdentifier(space))) }
    return true
  }
}
