// SPDX-License-Identifier: Apache-2.0

// An io_uring that an agent has made in a client's address space. Its buffers are pages of that
// address space, pinned for as long as the buffer is registered (io_uring: io_pin_pages(), with
// FOLL_WRITE and FOLL_LONGTERM). Buffers are accessed by requests that this server makes, whatever
// the client has done to its mappings since, also after the client's end.
//
// A transfer moves bytes between pages that are present and files of this server. It does not wait
// for a client, so a lock is held during the transfer.

internal import CLinux
internal import Synchronization
internal import SystemPackage

final class PinRing: @unchecked Sendable {
  /// The number of the ring's descriptor in the agent.
  let number: UInt64
  private let descriptor: OwnedDescriptor
  // SAFETY: `transfers` guards the struct; it is freed by `deinit`.
  private let ring: UnsafeMutablePointer<CLinux_ring>
  private let transfers = Mutex<Void>(())
  private let slots = Mutex(Slots())

  /// Numbers of buffers that are not in use.
  private struct Slots {
    var freed: [UInt32] = []
    /// The number of buffers that were in use at least once.
    var fresh: UInt32 = 0
    /// Whether the agent is filling a buffer, which can wait for a page of the client.
    var isFilling = false
    /// Buffers to remove when the agent has filled its buffer.
    var removals: [UInt32] = []

    var areUnused: Bool { freed.count == Int(fresh) }
  }

  /// Takes over a ring that `agent` has made, and its table of empty buffers.
  /// - Throws: the errno of pidfd_getfd(2) or of what `CLinux_ring_open()` calls.
  init(_ number: UInt64, of agent: HostTask) throws(Errno) {
    self.number = number
    descriptor = try agent.duplicateDescriptor(Int32(truncatingIfNeeded: number))
    ring = .allocate(capacity: 1)
    let result = CLinux_ring_open(ring, descriptor.rawValue)
    guard result == 0 else {
      ring.deallocate()
      throw Errno(rawValue: -result)
    }
  }

  deinit {
    CLinux_ring_close(ring)
    ring.deallocate()
  }

  // MARK: Buffers

  /// Returns the number of a buffer that is not in use; `nil` when all are.
  func takeSlot() -> UInt32? {
    slots.withLock { slots in
      if let slot = slots.freed.popLast() { return slot }
      guard slots.fresh < UInt32(CLinux_ring_buffers) else { return nil }
      defer { slots.fresh += 1 }
      return slots.fresh
    }
  }

  /// Makes buffer `slot` free. It must be empty.
  func free(_ slot: UInt32) { slots.withLock { $0.freed.append(slot) } }

  /// Unpins the pages of buffer `slot`. While the agent fills a buffer, the kernel would make the
  /// call wait (io_ring_ctx.uring_lock); the pages are then unpinned afterwards.
  func remove(_ slot: UInt32) {
    slots.withLock { slots in
      if slots.isFilling { slots.removals.append(slot) } else { remove(slot, &slots) }
    }
  }

  /// A buffer that cannot be removed keeps its number, so that no other pages get it.
  private func remove(_ slot: UInt32, _ slots: inout Slots) {
    guard CLinux_ring_remove(descriptor.rawValue, slot) == 0 else { return }
    slots.freed.append(slot)
    if slots.areUnused, CLinux_ring_unpins_late() { _ = CLinux_ring_clear(descriptor.rawValue) }
  }

  /// Runs `body`, in which the agent fills a buffer. One agent fills one buffer at a time.
  func whileFilling<Result>(_ body: () throws(Errno) -> Result) throws(Errno) -> Result {
    slots.withLock { $0.isFilling = true }
    defer {
      slots.withLock { slots in
        slots.isFilling = false
        for slot in slots.removals { remove(slot, &slots) }
        slots.removals = []
      }
    }
    return try body()
  }

  // MARK: Transfers

  /// - Returns: false when the kernel refuses.
  func read(
    _ slot: UInt32, at address: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) -> Bool {
    transfers.withLock { _ in
      CLinux_ring_read(ring, buffer.baseAddress, address, buffer.count, slot) == 0
    }
  }

  /// - Returns: false when the kernel refuses.
  func write(_ slot: UInt32, _ bytes: UnsafeRawBufferPointer, at address: UInt64) -> Bool {
    transfers.withLock { _ in
      CLinux_ring_write(ring, bytes.baseAddress, address, bytes.count, slot) == 0
    }
  }
}
