// Reading and writing physical memory, as the copier of a DMA does it.
//
// An access is cut where the kind of frame changes. Memory that is here is copied at once; the kinds
// are then tested again, because the page may have been lost under the copy. Everything else takes a
// system call per run, made without any lock: another process's memory may stall the caller for as
// long as that process likes.

internal import Glibc
internal import Host
internal import Synchronization

extension PhysicalMemory {
  /// ``read(_:into:)`` with the everyday case in place: memory that is here, within one frame.
  @inline(__always)
  func readInPlace(
    _ physical: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer
  ) -> MemoryOutcome {
    let offset = Int(truncatingIfNeeded: physical.rawValue & UInt64(Frame.size - 1))
    let kind = window.kind(of: physical)
    guard offset &+ buffer.count <= Frame.size, kind == .direct, let start = buffer.baseAddress
    else { return read(physical, into: buffer) }
    memcpy(start, window.pointer(physical), buffer.count)
    return window.kind(of: physical) == kind ? .done : noticeLoss(physical)
  }

  /// ``write(_:to:)`` with the same case in place.
  @inline(__always)
  func writeInPlace(
    _ bytes: UnsafeRawBufferPointer, to physical: PhysicalAddress
  ) -> MemoryOutcome {
    let offset = Int(truncatingIfNeeded: physical.rawValue & UInt64(Frame.size - 1))
    let kind = window.kind(of: physical)
    guard offset &+ bytes.count <= Frame.size, kind == .direct, let start = bytes.baseAddress
    else { return write(bytes, to: physical) }
    memcpy(window.pointer(physical), start, bytes.count)
    return window.kind(of: physical) == kind ? .done : noticeLoss(physical)
  }

  /// Fills `buffer` from `physical`. Unless the outcome is `done`, some of it is undefined.
  package func read(
    _ physical: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer
  ) -> MemoryOutcome {
    guard var destination = buffer.baseAddress else { return .done }
    var (source, left) = (physical, buffer.count)
    while left > 0 {
      let (count, kind) = run(at: source, count: left)
      if kind == .direct || kind == .directReadOnly {
        memcpy(destination, window.pointer(source), count)
        guard isStill(kind, source, count: count) else { return noticeLoss(source) }
      } else {
        let slow = UnsafeMutableRawBufferPointer(start: destination, count: count)
        guard readRemote(source, kind: kind, into: slow) else { return .gone }
      }
      (source, left) = (PhysicalAddress(source.rawValue &+ UInt64(count)), left - count)
      destination += count
    }
    return .done
  }

  /// Stores `bytes` at `physical`. Unless the outcome is `done`, some of them may be stored.
  package func write(
    _ bytes: UnsafeRawBufferPointer, to physical: PhysicalAddress
  ) -> MemoryOutcome {
    guard var source = bytes.baseAddress else { return .done }
    var (destination, left) = (physical, bytes.count)
    while left > 0 {
      let (count, kind) = run(at: destination, count: left)
      if kind == .direct {
        memcpy(window.pointer(destination), source, count)
        guard isStill(kind, destination, count: count) else { return noticeLoss(destination) }
      } else if kind == .directReadOnly {
        return .readOnly
      } else {
        let slow = UnsafeRawBufferPointer(start: source, count: count)
        let outcome = writeRemote(slow, kind: kind, to: destination)
        guard outcome == .done else { return outcome }
      }
      (destination, left) = (PhysicalAddress(destination.rawValue &+ UInt64(count)), left - count)
      source += count
    }
    return .done
  }

  /// The 64-bit little-endian word at `physical`, a multiple of 8. For tools and tests.
  package func word(at physical: PhysicalAddress) -> UInt64? {
    var value: UInt64 = 0
    let outcome = withUnsafeMutableBytes(of: &value) { read(physical, into: $0) }
    return outcome == .done ? UInt64(littleEndian: value) : nil
  }

  /// How many of `count` bytes at `physical` are in frames of one kind, and which.
  @inline(__always)
  private func run(at physical: PhysicalAddress, count: Int) -> (count: Int, kind: FrameKind) {
    let kind = window.kind(of: physical)
    let offset = Int(truncatingIfNeeded: physical.rawValue & UInt64(Frame.size - 1))
    var length = Frame.size - offset
    while length < count {
      let next = physical.rawValue &+ UInt64(length)
      // A remote run ends with its chunk: the next one is somewhere else.
      guard window.kind(of: PhysicalAddress(next)) == kind,
        next & UInt64(1 << Frame.chunkShift - 1) != 0
      else { break }
      length += Frame.size
    }
    return (min(length, count), kind)
  }

  @inline(__always)
  private func isStill(_ kind: FrameKind, _ physical: PhysicalAddress, count: Int) -> Bool {
    var address = physical.rawValue
    let last = address &+ UInt64(count &- 1)
    while true {
      guard window.kind(of: PhysicalAddress(address)) == kind else { return false }
      guard address | UInt64(Frame.size - 1) < last else { return true }
      address = (address | UInt64(Frame.size - 1)) &+ 1
    }
  }

  // MARK: The slow path

  private func readRemote(
    _ physical: PhysicalAddress, kind: FrameKind, into buffer: UnsafeMutableRawBufferPointer
  ) -> Bool {
    guard kind.isRemote, let (backing, address) = origin(of: physical) else { return false }
    switch backing {
    case .process(let space):
      if space.read(at: address, into: buffer) == buffer.count { return true }
      guard hasCopy(physical, of: space) else { return false }
      return read(physical, into: buffer) == .done
    case .file(let file):
      return file.read(at: address, into: buffer) == buffer.count
    }
  }

  private func writeRemote(
    _ bytes: UnsafeRawBufferPointer, kind: FrameKind, to physical: PhysicalAddress
  ) -> MemoryOutcome {
    guard kind.isRemote, let (backing, address) = origin(of: physical) else { return .gone }
    switch backing {
    case .process(let space):
      if space.write(bytes, at: address) == bytes.count { return .done }
      guard hasCopy(physical, of: space) else { return .gone }
      return write(bytes, to: physical)
    case .file(let file):
      guard file.isWritable else { return .readOnly }
      return file.write(bytes, at: address) == bytes.count ? .done : .gone
    }
  }

  /// Whether an access that failed can be made again because the frame's copy is its contents now. Its
  /// process may have been copied, and gone, after the access looked at the frame's kind.
  private func hasCopy(_ physical: PhysicalAddress, of space: AddressSpace) -> Bool {
    switch window.kind(of: physical) {
    case .preserved: adoptCopies(of: space)
    case .direct: true
    default: false
    }
  }

  /// What the frame at `physical` stands for, held for the access that follows.
  private func origin(
    of physical: PhysicalAddress
  ) -> (backing: ChunkDirectory.Backing, address: UInt64)? {
    let place = Int(physical.rawValue >> UInt64(Frame.chunkShift))
    let offset = physical.rawValue & UInt64(1 << Frame.chunkShift - 1)
    return directory.withLock { state in
      state.chunks[place].map { ($0.backing, $0.fileOffset + offset) }
    }
  }

  /// A page of a client's file went away under an access.
  @inline(never)
  private func noticeLoss(_ physical: PhysicalAddress) -> MemoryOutcome {
    guard case .file(let file)? = origin(of: physical)?.backing, let end = file.size else {
      return .gone
    }
    let place = Int(physical.rawValue >> UInt64(Frame.chunkShift))
    directory.withLock { dropTail(behind: end, of: place, in: &$0) }
    return .gone
  }
}
