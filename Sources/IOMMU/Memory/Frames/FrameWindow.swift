// SPDX-License-Identifier: Apache-2.0

// The view of physical memory that walks and DMA copies use: three constants, without a lock.
//
// The kind of a frame can change at any time, because a client can truncate its file. A kind is
// therefore an atomic byte, and an access to client memory tests it before and after: `truncated`
// afterwards means that the bytes that were read are not the client's.

internal import Synchronization

struct FrameWindow: @unchecked Sendable {
  /// The host address of physical address 0.
  let base: UnsafeMutableRawPointer
  private let kinds: UnsafeMutablePointer<Atomic<UInt8>>
  private let frameCount: UInt64

  init(base: UnsafeMutableRawPointer, kinds: UnsafeMutablePointer<UInt8>, frameCount: Int) {
    self.base = base
    // SAFETY: an atomic byte has the representation of a byte.
    self.kinds = UnsafeMutableRawPointer(kinds).assumingMemoryBound(to: Atomic<UInt8>.self)
    self.frameCount = UInt64(frameCount)
  }

  /// The kinds of all frames, one byte each.
  var kindBytes: UnsafeRawPointer { UnsafeRawPointer(kinds) }

  // MARK: Kinds of frames

  /// Returns the kind of the frame that holds `physical`; `none` beyond the end of memory.
  @inline(__always)
  func kind(of physical: PhysicalAddress) -> FrameKind {
    let frame = physical.rawValue &>> UInt64(Frame.shift)
    guard frame < frameCount else { return .none }
    // SAFETY: the guard checks the index.
    return FrameKind(rawValue: kinds[Int(truncatingIfNeeded: frame)].load(ordering: .relaxed))
  }

  func kind(ofFrame frame: Int) -> FrameKind {
    FrameKind(rawValue: kinds[frame].load(ordering: .relaxed))
  }

  func setKind(_ kind: FrameKind, frame: Int) {
    kinds[frame].store(kind.rawValue, ordering: .relaxed)
  }

  func setKind(_ kind: FrameKind, frames: Range<Int>) {
    let (words, ends) = wordsAndEnds(of: frames)
    for word in words { eightKinds[word].store(Self.repeated(kind), ordering: .relaxed) }
    for frame in ends.head { setKind(kind, frame: frame) }
    for frame in ends.tail { setKind(kind, frame: frame) }
  }

  /// Returns whether every one of `frames` has `kind`.
  func areAll(_ kind: FrameKind, _ frames: Range<Int>) -> Bool {
    let (words, ends) = wordsAndEnds(of: frames)
    return words.allSatisfy { eightKinds[$0].load(ordering: .relaxed) == Self.repeated(kind) }
      && ends.head.allSatisfy { self.kind(ofFrame: $0) == kind }
      && ends.tail.allSatisfy { self.kind(ofFrame: $0) == kind }
  }

  /// Returns the part of `frames` whose kinds fill whole 64-bit words, as numbers of words, and the
  /// frames before and after it.
  private func wordsAndEnds(
    of frames: Range<Int>
  ) -> (words: Range<Int>, ends: (head: Range<Int>, tail: Range<Int>)) {
    let (first, end) = ((frames.lowerBound + 7) / 8, frames.upperBound / 8)
    guard first < end else { return (0..<0, (frames, frames.upperBound..<frames.upperBound)) }
    return (first..<end, (frames.lowerBound..<first * 8, end * 8..<frames.upperBound))
  }

  private static func repeated(_ kind: FrameKind) -> UInt64 {
    UInt64(kind.rawValue) &* 0x0101_0101_0101_0101
  }

  /// The kinds of eight frames in one word. Access by byte and access by word see the same values.
  private var eightKinds: UnsafeMutablePointer<Atomic<UInt64>> {
    // SAFETY: the array consists of whole pages, and callers stay inside it.
    UnsafeMutableRawPointer(kinds).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  // MARK: Contents

  /// Returns the host address of `physical`, whose frame must be mapped.
  @inline(__always)
  func pointer(_ physical: PhysicalAddress) -> UnsafeMutableRawPointer {
    base + Int(truncatingIfNeeded: physical.rawValue)
  }

  /// Returns the 64-bit entry at `physical`, a multiple of 8, whose frame must be mapped.
  @inline(__always)
  func entry(_ physical: PhysicalAddress) -> UnsafeMutablePointer<Atomic<UInt64>> {
    // SAFETY: callers pass addresses of table entries, which are multiples of 8.
    pointer(physical).assumingMemoryBound(to: Atomic<UInt64>.self)
  }
}

/// Tables that drivers keep in RAM of this server.
extension FrameWindow: TableMemory {
  @inline(__always)
  func load(_ address: PhysicalAddress) -> UInt64? {
    guard kind(of: address) == .mapped else { return nil }
    return entry(address).pointee.load(ordering: .relaxed)
  }

  @inline(__always)
  func update(_ address: PhysicalAddress, from old: UInt64, to new: UInt64) -> EntryUpdate {
    guard kind(of: address) == .mapped else { return .failed }
    return exchange(address, expected: old, desired: new) ? .stored : .changed
  }

  /// Stores `new` if the entry still is `old`, atomically.
  @inline(__always)
  func exchange(_ address: PhysicalAddress, expected old: UInt64, desired new: UInt64) -> Bool {
    guard kind(of: address) == .mapped else { return false }
    return entry(address).pointee.compareExchange(
      expected: old, desired: new, ordering: .relaxed
    ).exchanged
  }

  /// Stores an entry of a table in RAM of this server.
  @inline(__always)
  func store(_ value: UInt64, at address: PhysicalAddress) {
    entry(address).pointee.store(value, ordering: .releasing)
  }
}
