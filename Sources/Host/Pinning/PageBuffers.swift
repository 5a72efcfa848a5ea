// SPDX-License-Identifier: Apache-2.0

// Pages of this process that the kernel keeps pinned as buffers of io_uring(7) (io_uring:
// io_pin_pages(), with FOLL_WRITE and FOLL_LONGTERM). A pinned page keeps its contents when its
// file loses it, and they can still be read through the ring.
//
// A ring has a table of CLinux_ring_buffers buffers; rings are added as they are needed. The owner
// guards the object with a lock. No function waits for a client.

internal import CLinux
internal import Glibc
package import SystemPackage

// SAFETY: the owner guards the object with a lock.
package final class PageBuffers: @unchecked Sendable {
  private struct Ring {
    let descriptor: OwnedDescriptor
    let transfers: UnsafeMutablePointer<CLinux_ring>
    /// The number of buffers in use.
    var used = 0
  }

  /// The number of rings. Each costs four descriptors.
  private static let ringLimit = 64
  private static let perRing = UInt32(CLinux_ring_buffers)

  private var rings: [Ring] = []
  private var freed: [UInt32] = []
  /// The number of buffers that were in use at least once.
  private var fresh: UInt32 = 0

  package init() {}

  deinit {
    for ring in rings {
      CLinux_ring_close(ring.transfers)
      ring.transfers.deallocate()
    }
  }

  /// Pins `count` bytes, whole pages and at most 1 GiB, at `base`.
  /// - Returns: the number of the buffer.
  /// - Throws: the errno of io_uring_setup(2) or io_uring_register(2); `.noMemory` also when
  ///   RLIMIT_MEMLOCK of this user would be exceeded.
  package func pin(_ base: UnsafeMutableRawPointer, count: Int) throws(Errno) -> UInt32 {
    let number = try takeNumber()
    let result = update(number, UInt64(UInt(bitPattern: base)), UInt64(count))
    guard result >= 0 else {
      freed.append(number)
      throw Errno(rawValue: -result)
    }
    rings[Int(number / Self.perRing)].used += 1
    return number
  }

  package func unpin(_ number: UInt32) {
    // A buffer that cannot be removed keeps its number, so that no other pages get it.
    guard update(number, 0, 0) >= 0 else { return }
    freed.append(number)
    let ring = Int(number / Self.perRing)
    rings[ring].used -= 1
    if rings[ring].used == 0, CLinux_ring_unpins_late() {
      _ = CLinux_ring_clear(rings[ring].descriptor.rawValue)
    }
  }

  /// Reads pages of buffer `number`, as they were when they were pinned, with all changes since.
  /// - Parameter address: where the pages were mapped.
  /// - Returns: false when the kernel refuses.
  package func read(
    _ number: UInt32, at address: UnsafeRawPointer, into buffer: UnsafeMutableRawBufferPointer
  ) -> Bool {
    CLinux_ring_read(
      rings[Int(number / Self.perRing)].transfers, buffer.baseAddress,
      UInt64(UInt(bitPattern: address)), buffer.count, number % Self.perRing) == 0
  }

  private func takeNumber() throws(Errno) -> UInt32 {
    if let number = freed.popLast() { return number }
    if fresh == UInt32(rings.count) * Self.perRing {
      guard rings.count < Self.ringLimit else { throw .noMemory }
      rings.append(try Self.makeRing())
    }
    defer { fresh += 1 }
    return fresh
  }

  private static func makeRing() throws(Errno) -> Ring {
    let descriptor = try OwnedDescriptor(checking: CLinux_ring_make())
    let transfers = UnsafeMutablePointer<CLinux_ring>.allocate(capacity: 1)
    let result = CLinux_ring_open(transfers, descriptor.rawValue)
    guard result == 0 else {
      transfers.deallocate()
      throw Errno(rawValue: -result)
    }
    return Ring(descriptor: descriptor, transfers: transfers)
  }

  private func update(_ number: UInt32, _ address: UInt64, _ count: UInt64) -> Int32 {
    CLinux_ring_update(
      rings[Int(number / Self.perRing)].descriptor.rawValue, number % Self.perRing, address, count)
  }
}
