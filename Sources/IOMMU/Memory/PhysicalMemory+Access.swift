// SPDX-License-Identifier: Apache-2.0

// Reads and writes of physical memory, as a DMA request makes them.
//
// An access is split where the kind of the frames changes. Memory that is mapped in this process is
// copied, and the kinds of its frames are tested again afterwards, because the client may have
// truncated the file during the copy. Every other run of frames takes a system call. It is made
// without any lock, because another process can stall an access to its memory indefinitely.

internal import Glibc
internal import Host
internal import Synchronization

extension PhysicalMemory {
  // MARK: One frame that is mapped

  /// Does what ``read(_:into:)`` does, with the most frequent case inlined: mapped memory within
  /// one frame.
  @inline(__always)
  func readInPlace(
    _ physical: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer
  ) -> MemoryOutcome {
    let offset = Int(truncatingIfNeeded: physical.rawValue & UInt64(Frame.size - 1))
    let kind = window.kind(of: physical)
    guard offset &+ buffer.count <= Frame.size, kind == .mapped, let start = buffer.baseAddress
    else { return read(physical, into: buffer) }
    memcpy(start, window.pointer(physical), buffer.count)
    return window.kind(of: physical) == kind ? .done : handleTruncation(at: physical)
  }

  /// Does what ``write(_:to:)`` does, with the same case inlined.
  @inline(__always)
  func writeInPlace(
    _ bytes: UnsafeRawBufferPointer, to physical: PhysicalAddress
  ) -> MemoryOutcome {
    let offset = Int(truncatingIfNeeded: physical.rawValue & UInt64(Frame.size - 1))
    let kind = window.kind(of: physical)
    guard offset &+ bytes.count <= Frame.size, kind == .mapped, let start = bytes.baseAddress
    else { return write(bytes, to: physical) }
    memcpy(window.pointer(physical), start, bytes.count)
    return window.kind(of: physical) == kind ? .done : handleTruncation(at: physical)
  }

  // MARK: Any memory

  /// Fills `buffer` from `physical`. The contents of `buffer` are undefined unless the outcome is
  /// `done`.
  package func read(
    _ physical: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer
  ) -> MemoryOutcome {
    guard var destination = buffer.baseAddress else { return .done }
    var (source, left) = (physical, buffer.count)
    while left > 0 {
      let (count, kind) = run(at: source, count: left)
      if kind == .mapped || kind == .mappedReadOnly {
        memcpy(destination, window.pointer(source), count)
        guard areAll(kind, source, count: count) else { return handleTruncation(at: source) }
      } else {
        let part = UnsafeMutableRawBufferPointer(start: destination, count: count)
        guard readRemote(source, kind: kind, into: part) else { return .gone }
      }
      (source, left) = (PhysicalAddress(source.rawValue &+ UInt64(count)), left - count)
      destination += count
    }
    return .done
  }

  /// Stores `bytes` at `physical`. Some of them may be stored when the outcome is not `done`.
  package func write(
    _ bytes: UnsafeRawBufferPointer, to physical: PhysicalAddress
  ) -> MemoryOutcome {
    guard var source = bytes.baseAddress else { return .done }
    var (destination, left) = (physical, bytes.count)
    while left > 0 {
      let (count, kind) = run(at: destination, count: left)
      if kind == .mapped {
        memcpy(window.pointer(destination), source, count)
        guard areAll(kind, destination, count: count) else {
          return handleTruncation(at: destination)
        }
      } else if kind == .mappedReadOnly {
        return .readOnly
      } else {
        let part = UnsafeRawBufferPointer(start: source, count: count)
        let outcome = writeRemote(part, kind: kind, to: destination)
        guard outcome == .done else { return outcome }
      }
      (destination, left) = (PhysicalAddress(destination.rawValue &+ UInt64(count)), left - count)
      source += count
    }
    return .done
  }

  /// Reads the 64-bit little-endian word at `physical`, a multiple of 8, from any memory.
  /// - Returns: `nil` when the memory is not available.
  package func word(at physical: PhysicalAddress) -> UInt64? {
    var value: UInt64 = 0
    let outcome = withUnsafeMutableBytes(of: &value) { read(physical, into: $0) }
    return outcome == .done ? UInt64(littleEndian: value) : nil
  }

  /// Returns the kind of the frame at `physical`, and how many of `count` bytes are in frames of
  /// that kind.
  @inline(__always)
  private func run(at physical: PhysicalAddress, count: Int) -> (count: Int, kind: FrameKind) {
    let kind = window.kind(of: physical)
    let offset = Int(truncatingIfNeeded: physical.rawValue & UInt64(Frame.size - 1))
    var length = Frame.size - offset
    while length < count {
      let next = physical.rawValue &+ UInt64(length)
      // A run ends with its chunk, because the next chunk stands for other client memory.
      guard window.kind(of: PhysicalAddress(next)) == kind, next & UInt64(Chunk.size - 1) != 0
      else { break }
      length += Frame.size
    }
    return (min(length, count), kind)
  }

  /// Returns whether all frames of the `count` bytes at `physical` have `kind`.
  @inline(__always)
  private func areAll(_ kind: FrameKind, _ physical: PhysicalAddress, count: Int) -> Bool {
    var address = physical.rawValue
    let last = address &+ UInt64(count &- 1)
    while true {
      guard window.kind(of: PhysicalAddress(address)) == kind else { return false }
      guard address | UInt64(Frame.size - 1) < last else { return true }
      address = (address | UInt64(Frame.size - 1)) &+ 1
    }
  }

  // MARK: Memory that is not mapped

  private func readRemote(
    _ physical: PhysicalAddress, kind: FrameKind, into buffer: UnsafeMutableRawBufferPointer
  ) -> Bool {
    if kind == .pinned { return readBuffers(physical, into: buffer) }
    guard kind.isRemote, let (backing, address) = backing(of: physical) else { return false }
    switch backing {
    case .process(let space):
      if space.read(at: address, into: buffer) == buffer.count { return true }
      guard hasAdoptedCopy(physical, of: space) else { return false }
      return read(physical, into: buffer) == .done
    case .file(let file):
      return file.read(at: address, into: buffer) == buffer.count
    }
  }

  private func writeRemote(
    _ bytes: UnsafeRawBufferPointer, kind: FrameKind, to physical: PhysicalAddress
  ) -> MemoryOutcome {
    if kind == .pinned { return writeBuffers(bytes, to: physical) }
    guard kind.isRemote, let (backing, address) = backing(of: physical) else { return .gone }
    switch backing {
    case .process(let space):
      if space.write(bytes, at: address) == bytes.count { return .done }
      guard hasAdoptedCopy(physical, of: space) else { return .gone }
      return write(bytes, to: physical)
    case .file(let file):
      guard file.isWritable else { return .readOnly }
      return file.write(bytes, at: address) == bytes.count ? .done : .gone
    }
  }

  /// Reads frames that the kernel keeps pinned. Adjacent frames can be of different buffers.
  private func readBuffers(
    _ physical: PhysicalAddress, into destination: UnsafeMutableRawBufferPointer
  ) -> Bool {
    var done = 0
    while done < destination.count {
      let address = PhysicalAddress(physical.rawValue + UInt64(done))
      guard let (buffer, offset, available) = buffer(at: address) else { return false }
      let end = min(destination.count, done + available)
      let part = UnsafeMutableRawBufferPointer(rebasing: destination[done..<end])
      guard buffer.read(at: offset, into: part) else { return false }
      done = end
    }
    return true
  }

  /// Writes frames that the kernel keeps pinned.
  private func writeBuffers(
    _ bytes: UnsafeRawBufferPointer, to physical: PhysicalAddress
  ) -> MemoryOutcome {
    var done = 0
    while done < bytes.count {
      let address = PhysicalAddress(physical.rawValue + UInt64(done))
      guard let (buffer, offset, available) = buffer(at: address) else { return .gone }
      let end = min(bytes.count, done + available)
      let part = UnsafeRawBufferPointer(rebasing: bytes[done..<end])
      guard buffer.write(part, at: offset) else { return .gone }
      done = end
    }
    return .done
  }

  /// Returns whether the copy of the frame at `physical` is its contents, so that an access to
  /// `space` that failed can be repeated. The process may have been copied, and may have ended,
  /// after the access tested the frame's kind.
  private func hasAdoptedCopy(_ physical: PhysicalAddress, of space: AddressSpace) -> Bool {
    switch window.kind(of: physical) {
    case .copied: adoptCopies(of: space)
    case .mapped: true
    default: false
    }
  }

  /// Handles an access that found a page of a client's file gone: the whole tail of the file's
  /// chunk becomes `truncated`.
  @inline(never)
  private func handleTruncation(at physical: PhysicalAddress) -> MemoryOutcome {
    if case .file(let file)? = backing(of: physical)?.backing, let end = file.size {
      markTruncated(from: end, at: physical)
    }
    return .gone
  }

  /// Stores `new` at `physical`, a multiple of 8, if the word there still is `old`. For frames that
  /// are reached by system calls.
  ///
  /// Updates of entries in one chunk exclude each other, so that concurrent walks never lose each
  /// other's flags. The owner of the memory cannot be excluded, so only the bytes that differ are
  /// stored.
  func updateRemote(
    _ physical: PhysicalAddress, from old: UInt64, to new: UInt64
  ) -> EntryUpdate {
    guard let lock = updateLock(of: physical) else { return .failed }
    return lock.mutex.withLock { _ in
      guard let current = word(at: physical) else { return .failed }
      guard current == old else { return .changed }
      let difference = old ^ new
      guard difference != 0 else { return .stored }
      let first = difference.trailingZeroBitCount / 8
      let end = 8 - difference.leadingZeroBitCount / 8
      let outcome = withUnsafeBytes(of: new.littleEndian) { bytes in
        write(
          UnsafeRawBufferPointer(rebasing: bytes[first..<end]),
          to: PhysicalAddress(physical.rawValue + UInt64(first)))
      }
      return outcome == .done ? .stored : .failed
    }
  }
}
