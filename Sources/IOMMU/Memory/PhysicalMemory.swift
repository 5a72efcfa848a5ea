// The machine's physical memory is one reservation of this server's address space: the byte at
// physical address `pa` is the byte at `base + pa`, for everything the server can reach directly. A
// translation therefore ends in an addition, whatever the memory is.
//
// The reservation is divided into chunks of 1 GiB. A chunk is either RAM of this server, which holds
// the tables that drivers build (see TableArena), or it stands for one GiB of a client's process or
// of a client's file (see PhysicalMemory+Pinning): there a frame's place is that of the page, so a page
// that is pinned twice has one frame, and pages that are adjacent and aligned for the client are
// adjacent and aligned here, which is what superpages need.
//
// Two arrays beside the reservation have an element per frame: what the frame is (`kinds`, tested by
// every access) and how often it is pinned (`pins`). All three are sparse: an untouched GiB costs nothing.
//
// What can go away under us is only ever client memory, and an access to it that fails is a result,
// `.gone`, never a crash: a truncated file (SIGBUS, see CLinux), an unmapped page, a dead process.

internal import CLinux
internal import Glibc
internal import Host
internal import Synchronization
package import SystemPackage

package final class PhysicalMemory: Sendable {
  /// What one machine may use. Exceeding any of them is ENOMEM for the client that asked.
  package struct Limits: Sendable {
    /// log2 of the physical address space, the host's willingness permitting (HAW); at most 46. A
    /// process has 2^47 bytes of addresses for all its machines and everything else.
    package var addressBits = 42
    /// Pages of 4 KiB for tables.
    package var tablePages = 1 << 18
    /// Client chunks: how many different GiB may have pinned pages at the same time.
    package var chunks = 4_000
    /// The same for one process or one file.
    package var chunksPerOwner = 1_024
    /// Pinned frames.
    package var pinnedFrames = 1 << 26
    /// Host mappings used for files; beyond it files are accessed by pread and pwrite. Nil: half of
    /// vm.max_map_count.
    package var fileMappings: Int?
    /// Bytes of one process kept when it ends.
    package var preservedBytes = 256 << 20

    package init() {}
  }

  package let limits: Limits
  /// log2 of the number of bytes that exist (VT-d's host address width).
  package let addressBits: Int
  let window: FrameWindow
  /// Elements count the pins of a frame; only touched under the lock of `directory`.
  let pins: SparseArray<UInt32>
  private let kinds: SparseArray<UInt8>
  var kindBytes: UnsafeRawPointer { UnsafeRawPointer(kinds.base) }
  let directory: Mutex<ChunkDirectory>
  let tables: Mutex<TableArena>
  let lines = Mutex<Void>(())
  /// Fault injection: asked before each allocation of a table and of a frame run.
  let shouldFailAllocation: @Sendable () -> Bool

  /// - Parameter shouldFailAllocation: makes an allocation fail with ENOMEM where it returns true.
  /// - Throws: `.noMemory` when the host grants not even 64 GiB of address space.
  package init(
    _ limits: Limits = Limits(),
    shouldFailAllocation: @escaping @Sendable () -> Bool = { false }
  ) throws(Errno) {
    var bits = min(limits.addressBits, 46)
    while true {
      if let reservation = Self.reserve(bits: bits) {
        (addressBits, window) = (bits, reservation.window)
        (kinds, pins) = (reservation.kinds, reservation.pins)
        break
      }
      guard bits > 36 else { throw .noMemory }
      bits -= 1
    }
    self.limits = limits
    self.shouldFailAllocation = shouldFailAllocation
    directory = Mutex(
      ChunkDirectory(
        chunkCount: 1 << (bits - Frame.chunkShift),
        fileMappings: limits.fileMappings ?? Self.defaultFileMappings()))
    tables = Mutex(TableArena(limit: limits.tablePages))
    let result = CLinux_sigbus_guard(
      window.base, 1 << bits, kinds.base, FrameKind.lost.rawValue)
    guard result == 0 else { throw Errno(rawValue: -result) }
  }

  deinit {
    CLinux_sigbus_unguard(window.base)
    munmap(window.base, 1 << addressBits)
  }

  private static func reserve(
    bits: Int
  ) -> (window: FrameWindow, kinds: SparseArray<UInt8>, pins: SparseArray<UInt32>)? {
    let frames = 1 << (bits - Frame.shift)
    guard let kinds = SparseArray<UInt8>(count: frames),
      let pins = SparseArray<UInt32>(count: frames),
      let base = reserveAligned(1 << bits)
    else { return nil }
    // A core dump must not try to write 64 TiB, nor a client's data.
    madvise(base, 1 << bits, MADV_DONTDUMP)
    return (FrameWindow(base: base, kinds: kinds.base, frameCount: frames), kinds, pins)
  }

  /// Addresses at a multiple of a chunk's size, as huge pages of files must be at a multiple of theirs.
  private static func reserveAligned(_ count: Int) -> UnsafeMutableRawPointer? {
    let chunk = 1 << Frame.chunkShift
    guard
      let memory = mmap(
        nil, count + chunk, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
      memory != MAP_FAILED
    else { return nil }
    let skipped = -Int(bitPattern: memory) & (chunk - 1)
    let base = memory + skipped
    if skipped > 0 { munmap(memory, skipped) }
    munmap(base + count, chunk - skipped)
    return base
  }

  /// Half of what the host allows one process, the other half being for everything else.
  private static func defaultFileMappings() -> Int {
    let text = try? ProcFile.read("/proc/sys/vm/max_map_count")
    let maximum = text.flatMap { Int($0.prefix(while: \.isNumber)) } ?? 65_530
    return maximum / 2
  }
}

/// An array of zeros that takes memory only where something is stored.
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
    // Zero-initialised by the kernel; integers need no other initialisation.
    base = memory.bindMemory(to: Element.self, capacity: count)
  }

  deinit { munmap(base, byteCount) }

  /// Whether every element of `range` is `value`. Looks at all of them: that is faster than to stop.
  func areAll(_ value: Element, _ range: Range<Int>) -> Bool {
    var difference: Element = 0
    for index in range { difference |= base[index] ^ value }
    return difference == 0
  }

  func set(_ value: Element, _ range: Range<Int>) {
    (base + range.lowerBound).update(repeating: value, count: range.count)
  }

  /// Makes the elements zero and gives their memory back.
  func clear(_ range: Range<Int>) {
    let stride = MemoryLayout<Element>.stride
    madvise(base + range.lowerBound, range.count * stride, MADV_DONTNEED)
  }
}
