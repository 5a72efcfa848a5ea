// Physical memory as the walker and the copier see it: three constants, and no lock.
//
// A kind byte may change at any time (a client truncates its file), so it is an atomic, and an
// access to client memory tests it before *and* after: `lost` afterwards means that what was read
// were not the client's bytes.

internal import Synchronization

struct FrameWindow: @unchecked Sendable {
  let base: UnsafeMutableRawPointer
  private let kinds: UnsafeMutablePointer<Atomic<UInt8>>
  private let frameCount: UInt64

  init(base: UnsafeMutableRawPointer, kinds: UnsafeMutablePointer<UInt8>, frameCount: Int) {
    self.base = base
    // SAFETY: an atomic of a byte has the representation of the byte.
    self.kinds = UnsafeMutableRawPointer(kinds).assumingMemoryBound(to: Atomic<UInt8>.self)
    self.frameCount = UInt64(frameCount)
  }

  /// The kind of the frame that holds `physical`; `none` beyond the end of memory.
  @inline(__always)
  func kind(of physical: PhysicalAddress) -> FrameKind {
    let frame = physical.rawValue &>> UInt64(Frame.shift)
    guard frame < frameCount else { return .none }
    // SAFETY: the index was just checked.
    return FrameKind(rawValue: kinds[Int(truncatingIfNeeded: frame)].load(ordering: .relaxed))
  }

  func kind(ofFrame frame: Int) -> FrameKind {
    FrameKind(rawValue: kinds[frame].load(ordering: .relaxed))
  }

  func setKind(_ kind: FrameKind, frame: Int) {
    kinds[frame].store(kind.rawValue, ordering: .relaxed)
  }

  func setKind(_ kind: FrameKind, frames: Range<Int>) {
    let (words, ends) = parts(of: frames)
    for word in words { eights[word].store(Self.repeated(kind), ordering: .relaxed) }
    for frame in ends.head { setKind(kind, frame: frame) }
    for frame in ends.tail { setKind(kind, frame: frame) }
  }

  /// Whether every one of `frames` is of `kind`.
  func areAll(_ kind: FrameKind, _ frames: Range<Int>) -> Bool {
    let (words, ends) = parts(of: frames)
    return words.allSatisfy { eights[$0].load(ordering: .relaxed) == Self.repeated(kind) }
      && ends.head.allSatisfy { self.kind(ofFrame: $0) == kind }
      && ends.tail.allSatisfy { self.kind(ofFrame: $0) == kind }
  }

  /// What can be done eight frames at a time, counted in eights, and what is before and behind it.
  private func parts(
    of frames: Range<Int>
  ) -> (words: Range<Int>, ends: (head: Range<Int>, tail: Range<Int>)) {
    let (first, end) = ((frames.lowerBound + 7) / 8, frames.upperBound / 8)
    guard first < end else { return (0..<0, (frames, frames.upperBound..<frames.upperBound)) }
    return (first..<end, (frames.lowerBound..<first * 8, end * 8..<frames.upperBound))
  }

  private static func repeated(_ kind: FrameKind) -> UInt64 {
    UInt64(kind.rawValue) &* 0x0101_0101_0101_0101
  }

  /// The kinds of eight frames. A frame's own byte in it is read and written as by itself.
  private var eights: UnsafeMutablePointer<Atomic<UInt64>> {
    // SAFETY: the array is of whole pages; callers stay within it.
    UnsafeMutableRawPointer(kinds).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  /// Where the bytes at `physical` are, for a frame whose kind says that they are here.
  @inline(__always)
  func pointer(_ physical: PhysicalAddress) -> UnsafeMutableRawPointer {
    base + Int(truncatingIfNeeded: physical.rawValue)
  }

  @inline(__always)
  func entry(_ physical: PhysicalAddress) -> UnsafeMutablePointer<Atomic<UInt64>> {
    // SAFETY: callers pass addresses of table entries, which are multiples of 8.
    pointer(physical).assumingMemoryBound(to: Atomic<UInt64>.self)
  }
}

/// The tables that drivers keep in the server's own RAM.
extension FrameWindow: TableMemory {
  @inline(__always)
  func load(_ address: PhysicalAddress) -> UInt64? {
    guard kind(of: address) == .direct else { return nil }
    return entry(address).pointee.load(ordering: .relaxed)
  }

  @inline(__always)
  func update(_ address: PhysicalAddress, from old: UInt64, to new: UInt64) -> EntryUpdate {
    guard kind(of: address) == .direct else { return .failed }
    return exchange(address, expected: old, desired: new) ? .stored : .changed
  }

  @inline(__always)
  func exchange(_ address: PhysicalAddress, expected old: UInt64, desired new: UInt64) -> Bool {
    guard kind(of: address) == .direct else { return false }
    return entry(address).pointee.compareExchange(
      expected: old, desired: new, ordering: .relaxed
    ).exchanged
  }

  /// Stores an entry of a table in the server's own RAM.
  @inline(__always)
  func store(_ value: UInt64, at address: PhysicalAddress) {
    entry(address).pointee.store(value, ordering: .releasing)
  }
}
