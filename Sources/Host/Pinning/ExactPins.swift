// SPDX-License-Identifier: Apache-2.0

// Pins of pages in one address space by the kernel itself: an agent registers the pages as buffers
// of an io_uring, and this server takes the ring over.
//
// The agent writes nothing to the client's memory but the arguments of its calls, in one page that
// it has mapped for them. fork(2) does not copy that page, and a client that unmaps the page makes
// later pins fail with EFAULT for this server's reading, so nothing but the client's own pins is
// affected.

internal import CLinux
internal import Synchronization
package import SystemPackage

package final class ExactPins: Sendable {
  private struct State {
    var rings: [PinRing] = []
  }

  /// The rings of one address space. Each has 16,384 buffers.
  private static let ringLimit = 64
  /// Where the page for arguments is, when the client has not mapped memory there. The address is
  /// far from those that mmap(2) and brk(2) choose.
  private static let preferredAddress: UInt64 = 0x3d_1110_0000

  private let agent: any MemoryAgent
  /// The address of the page for the arguments of system calls.
  private let arguments: UInt64
  private let state = Mutex(State())
  /// A lock, held while the agent executes calls, which may wait for the client's memory.
  private let turn = ThreadSemaphore()
  /// How long a pin waits for another one of the same client. The other one can wait for a page
  /// that the client provides (userfaultfd), and the client may need this pin for that.
  private static let patience = 100

  /// Prepares the address space of `agent` for pins.
  /// - Throws: the errno of a call that the host refuses, such as `.notSupported`, `.notPermitted`
  ///   or ENOSYS of io_uring_setup(2).
  package init(_ agent: any MemoryAgent) throws(Errno) {
    self.agent = agent
    // The agent has shared the client's descriptors so far. It keeps none of them.
    let unshare: UInt64 = 2  // CLOSE_RANGE_UNSHARE
    _ = try agent.call(.closeRange, 0, UInt64(UInt32.max), unshare)
    // Signals to the client's process group are not for the agent.
    _ = try agent.call(.setsid)
    let privateMemory: UInt64 = 0x22  // MAP_PRIVATE | MAP_ANONYMOUS
    arguments = try agent.call(.mmap, Self.preferredAddress, 4096, 3, privateMemory, .max, 0)
    for advice: UInt64 in [10, 16] {  // MADV_DONTFORK, MADV_DONTDUMP
      _ = try agent.call(.madvise, arguments, 4096, advice)
    }
    try store(Array("iommufd-pins".utf8) + [0])
    let setName: UInt64 = 15  // PR_SET_NAME
    _ = try agent.call(.prctl, setName, arguments)
    let ring = try makeRing()
    state.withLock { $0.rings.append(ring) }
    turn.signal()
  }

  deinit { agent.end() }

  /// The task of the agent.
  package var task: HostTask { agent.task }

  package func end() { agent.end() }

  /// Pins the pages of `range`, a multiple of pages, for reading and writing.
  /// - Parameter space: the address space of the agent.
  /// - Returns: buffers in the order of addresses.
  /// - Throws: `.badAddress` when a page cannot be pinned for writing; `.resourceBusy` while
  ///   another pin waits for a page; `.noMemory` when the user's
  ///   RLIMIT_MEMLOCK does not allow the pin, or at the limit of buffers; another errno where the
  ///   host cannot pin such pages. Nothing is pinned then.
  package func pin(
    _ range: Range<UInt64>, of space: AddressSpace
  ) throws(Errno) -> [PinnedBuffer] {
    guard turn.wait(milliseconds: Self.patience) else { throw .resourceBusy }
    defer { turn.signal() }
    var buffers: [PinnedBuffer] = []
    var start = range.lowerBound
    while start < range.upperBound {
      let limit = start & ~(PinnedBuffer.maximumSize - 1)
      let end = min(range.upperBound, limit &+ PinnedBuffer.maximumSize)
      buffers.append(try pinBuffer(start..<end, of: space))
      start = end
    }
    return buffers
  }

  private func pinBuffer(
    _ range: Range<UInt64>, of space: AddressSpace
  ) throws(Errno) -> PinnedBuffer {
    let (ring, slot) = try takeSlot()
    var update = CLinux_ring_update()
    CLinux_ring_update_init(
      &update, arguments, slot, range.lowerBound, range.upperBound - range.lowerBound)
    do throws(Errno) {
      try store(withUnsafeBytes(of: &update) { Array($0) })
      let count = try agent.call(
        .ioUringRegister, ring.number, UInt64(CLinux_IORING_REGISTER_BUFFERS_UPDATE), arguments,
        UInt64(CLinux_ring_update_size))
      guard count == 1 else { throw .badAddress }
    } catch {
      ring.free(slot)
      throw error
    }
    return PinnedBuffer(range, of: space, in: ring, slot: slot)
  }

  private func takeSlot() throws(Errno) -> (PinRing, UInt32) {
    let rings = state.withLock { $0.rings }
    for ring in rings.reversed() {
      if let slot = ring.takeSlot() { return (ring, slot) }
    }
    guard rings.count < Self.ringLimit else { throw .noMemory }
    let ring = try makeRing()
    state.withLock { $0.rings.append(ring) }
    guard let slot = ring.takeSlot() else { throw .noMemory }
    return (ring, slot)
  }

  private func makeRing() throws(Errno) -> PinRing {
    // struct io_uring_params, of which only the flags are set.
    var parameters = [UInt8](repeating: 0, count: 120)
    withUnsafeBytes(of: CLinux_ring_setup_flags()) { parameters.replaceSubrange(8..<12, with: $0) }
    try store(parameters)
    let number = try agent.call(.ioUringSetup, UInt64(CLinux_ring_entries), arguments)
    var table = [UInt8](repeating: 0, count: 32)
    CLinux_ring_table_init(&table)
    try store(table)
    _ = try agent.call(
      .ioUringRegister, number, UInt64(CLinux_IORING_REGISTER_BUFFERS2), arguments,
      UInt64(table.count))
    return try PinRing(number, of: agent.task)
  }

  /// Stores `bytes` in the page for arguments.
  private func store(_ bytes: [UInt8]) throws(Errno) {
    var failure: Errno?
    bytes.withUnsafeBytes { bytes in
      do throws(Errno) { try agent.task.write(bytes, at: arguments) } catch { failure = error }
    }
    // The client has unmapped the page.
    if failure != nil { throw .noSuchProcess }
  }
}
