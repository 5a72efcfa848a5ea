// SPDX-License-Identifier: Apache-2.0

// The host memory behind physical memory: one range of this process's address space, and three
// arrays with an element for each frame. All are sparse: host memory is used only where something
// is stored, so an untouched GiB costs nothing.
//
// `PhysicalMemory` owns the reservation. The reservation never moves or shrinks, so everything that
// reads memory holds a copy of `window` and takes no lock.

internal import CLinux
internal import Glibc
internal import SystemPackage

final class Reservation: Sendable {
  /// log2 of the bytes of physical memory.
  let addressBits: Int
  /// The view that accesses use. Its base is a multiple of the chunk size.
  let window: FrameWindow
  /// The number of pins of each frame. Guarded by the lock of `PhysicalMemory.clients`.
  let pins: SparseArray<UInt32>
  /// For `BufferFrames` and `RetainedFilePages`, which own the elements of their chunks. Guarded by
  /// the same lock.
  let owners: SparseArray<UInt32>
  /// The `FrameKind` of each frame. `window` reads and writes the elements as atomics.
  private let kinds: SparseArray<UInt8>

  /// Reserves 2^`addressBits` bytes, or as many fewer as the host grants.
  /// - Throws: `.noMemory` when the host does not grant even 64 GiB of address space.
  init(addressBits limit: Int) throws(Errno) {
    var bits = limit
    while true {
      let frames = 1 << (bits - Frame.shift)
      if let kinds = SparseArray<UInt8>(count: frames),
        let pins = SparseArray<UInt32>(count: frames),
        let owners = SparseArray<UInt32>(count: frames), Self.hasRoomForHeap,
        let base = Self.reserve(1 << bits)
      {
        (self.kinds, self.pins, self.owners, addressBits) = (kinds, pins, owners, bits)
        window = FrameWindow(base: base, kinds: kinds.base, frameCount: frames)
        break
      }
      guard bits > 36 else { throw .noMemory }
      bits -= 1
    }
    // A core dump must contain neither terabytes of reservation nor a client's data.
    madvise(window.base, 1 << bits, MADV_DONTDUMP)
    let result = CLinux_sigbus_guard(
      window.base, 1 << bits, kinds.base, FrameKind.truncated.rawValue)
    guard result == 0 else { throw Errno(rawValue: -result) }
  }

  deinit {
    CLinux_sigbus_unguard(window.base)
    munmap(window.base, 1 << addressBits)
  }

  /// Whether the limits of this process leave room for its heap, its threads and the table arena
  /// beside the arrays. RLIMIT_DATA counts all of them whole (mm: may_expand_vm()). The Swift
  /// runtime ends the process when it cannot allocate memory.
  private static var hasRoomForHeap: Bool {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    let memory = mmap(nil, heapRoom, PROT_READ | PROT_WRITE, flags, -1, 0)
    guard let memory, memory != MAP_FAILED else { return false }
    munmap(memory, heapRoom)
    return true
  }
  private static let heapRoom = Chunk.size + (160 << 20)

  /// Reserves `count` bytes at a multiple of the chunk size: the host maps a file's huge pages only
  /// at multiples of their size.
  private static func reserve(_ count: Int) -> UnsafeMutableRawPointer? {
    guard
      let memory = mmap(
        nil, count + Chunk.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
      memory != MAP_FAILED
    else { return nil }
    let skipped = -Int(bitPattern: memory) & (Chunk.size - 1)
    let base = memory + skipped
    if skipped > 0 { munmap(memory, skipped) }
    munmap(base + count, Chunk.size - skipped)
    return base
  }

  /// Replaces whatever is mapped at `frames` by private zeroed memory of this server.
  /// - Parameter protection: PROT_NONE for address space that only stays reserved.
  /// - Returns: false when the host refuses.
  func mapAnonymous(_ frames: Range<Int>, _ protection: Int32) -> Bool {
    let result = mmap(
      window.base + frames.lowerBound << Frame.shift, frames.count << Frame.shift, protection,
      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0)
    return result != MAP_FAILED
  }

  /// Frees the host memory at `frames`, which must be private memory of this server.
  func discard(_ frames: Range<Int>) {
    madvise(
      window.base + frames.lowerBound << Frame.shift, frames.count << Frame.shift, MADV_DONTNEED)
  }
}

/// An array of zeros that uses host memory only where an element was stored.
final class SparseArray<Element: FixedWidthInteger & BitwiseCopyable>: @unchecked Sendable {
  let base: UnsafeMutablePointer<Element>
  private let byteCount: Int

  init?(count: Int) {
    byteCount = count * MemoryLayout<Element>.stride
    guard
      let memory = mmap(
        nil, byteCount, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), memory != MAP_FAILED
    else { return nil }
    madvise(memory, byteCount, MADV_DONTDUMP)
    // The kernel initializes the memory with zeros, and integers need no other initialization.
    base = memory.bindMemory(to: Element.self, capacity: count)
  }

  deinit { munmap(base, byteCount) }

  /// Returns the longest range from `start` on, up to `end`, whose elements are equal.
  func run(from start: Int, to end: Int) -> Range<Int> {
    var index = start + 1
    while index < end, base[index] == base[start] { index += 1 }
    return start..<index
  }

  /// Returns whether every element of `range` is `value`. The loop does not stop at the first
  /// difference: a loop without a branch is faster.
  func areAll(_ value: Element, _ range: Range<Int>) -> Bool {
    var difference: Element = 0
    for index in range { difference |= base[index] ^ value }
    return difference == 0
  }

  /// Stores `value` in every element of `range`.
  func set(_ value: Element, _ range: Range<Int>) {
    (base + range.lowerBound).update(repeating: value, count: range.count)
  }

  /// Sets the elements to zero and frees their host memory.
  func clear(_ range: Range<Int>) {
    let stride = MemoryLayout<Element>.stride
    madvise(base + range.lowerBound, range.count * stride, MADV_DONTNEED)
  }
}
