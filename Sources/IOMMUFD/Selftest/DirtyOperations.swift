// SPDX-License-Identifier: Apache-2.0

// The operation of the selftest interface that sets dirty bits in a page table, as writes of a
// device do.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

enum DirtyOperations {
  /// The number of bits that the bitmap of the operation can have.
  private static let bitLimit: UInt64 = 8 << 24

  /// DIRTY. selftest.c: iommufd_test_dirty()
  static func markDirty(_ command: inout TestCommand) throws(Errno) {
    let arguments = command.arguments.dirty
    let (first, step) = (arguments.iova, arguments.page_size)
    guard step > 0, arguments.length > 0, first % step == 0, arguments.length % step == 0,
      arguments.uptr != 0
    else { throw .invalidArgument }
    let count = arguments.length / step
    guard count <= bitLimit else { throw .overflow }
    let context = command.context
    let domain = try context.lock.withLock { [command] () throws(Errno) in
      let domain = try command.mockHWPT().domain
      guard domain.isTracking else { throw Errno.invalidArgument }
      return domain
    }
    let bits: [UInt8] = try command.client.loadArray(Int((count + 7) / 8), at: arguments.uptr)
    var marked: UInt64 = 0
    for (index, byte) in bits.enumerated() where byte != 0 {
      for bit in 0..<8 where byte & 1 << UInt8(bit) != 0 {
        let number = UInt64(index * 8 + bit)
        guard number < count else { break }
        domain.setDirty(IOVA(first &+ number &* step))
        marked += 1
      }
    }
    command.arguments.dirty.out_nr_dirty = marked
    try command.respond()
  }
}
