// SPDX-License-Identifier: Apache-2.0

// Pins of pages in one address space by the kernel itself: an agent registers the pages as buffers
// of an io_uring, and this server takes the ring over.
//
// The agent changes nothing in the client's address space but one page that it has mapped for the
// arguments of its calls (`ArgumentPage`).

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
  private let arguments: ArgumentPage
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
    let page = try agent.call(.mmap, Self.preferredAddress, 4096, 3, privateMemory, .max, 0)
    try Self.store("iommufd-pins", at: page, of: agent.task)
    let setName: UInt64 = 15  // PR_SET_NAME
    _ = try agent.call(.prctl, setName, page)
    arguments = try ArgumentPage(at: page, of: agent)
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
    guard turn.tryWait() || turn.wait(milliseconds: Self.patience) else { throw .resourceBusy }
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
      &update, arguments.address, slot, range.lowerBound, range.upperBound - range.lowerBound)
    withUnsafeBytes(of: update) { arguments.store($0) }
    do throws(Errno) {
      let count = try ring.whileFilling { () throws(Errno) in
        try agent.call(
          .ioUringRegister, ring.number, UInt64(CLinux_IORING_REGISTER_BUFFERS_UPDATE),
          arguments.address, UInt64(CLinux_ring_update_size))
      }
      guard count == 1 else { throw .badAddress }
    } catch {
      ring.free(slot)
      // The client has unmapped the page for arguments.
      if error == .badAddress, !withUnsafeBytes(of: update, { arguments.holds($0) }) {
        throw .noSuchProcess
      }
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
    parameters.withUnsafeBytes { arguments.store($0) }
    let number = try agent.call(
      .ioUringSetup, UInt64(CLinux_ring_entries), arguments.address)
    var table = [UInt8](repeating: 0, count: 32)
    CLinux_ring_table_init(&table)
    table.withUnsafeBytes { arguments.store($0) }
    _ = try agent.call(
      .ioUringRegister, number, UInt64(CLinux_IORING_REGISTER_BUFFERS2), arguments.address,
      UInt64(table.count))
    return try PinRing(number, of: agent.task)
  }

  /// Stores a name, ending in 0, in the memory of `agent`.
  private static func store(
    _ name: String, at address: UInt64, of agent: HostTask
  ) throws(Errno) {
    let bytes = Array(name.utf8) + [0]
    var failure: Errno?
    bytes.withUnsafeBytes { bytes in
      do throws(Errno) { try agent.write(bytes, at: address) } catch { failure = error }
    }
    if let failure { throw failure }
  }
}
