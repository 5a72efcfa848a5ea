// The operation that writes to memory as a device would, as far as page tables can tell.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

enum DirtyTests {
  /// Bits of the bitmap.
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
    let bits = try load(count, at: arguments.uptr, command.client)
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

  private static func load(
    _ count: UInt64, at address: UInt64, _ client: any Client
  ) throws(Errno) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Int((count + 7) / 8))
    var failure: Errno?
    bytes.withUnsafeMutableBytes { bytes in
      do throws(Errno) { try client.copyIn(from: address, into: bytes) } catch { failure = error }
    }
    if let failure { throw failure }
    return bytes
  }
}
