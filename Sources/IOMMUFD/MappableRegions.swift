// Memory that clients can mmap through an iommufd, each piece at an offset of its own (iommufd: struct
// iommufd_mmap, ictx->mt_mmap). Under a leaf lock, as drivers add and remove from anywhere.

internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

final class MappableRegions: Sendable {
  /// Regions of one context.
  private static let capacity = 4096

  private struct Region {
    let offset: UInt64
    let length: UInt64
    let memory: OwnedDescriptor

    var end: UInt64 { offset + length }
  }

  /// In the order of offsets.
  private let regions = Mutex<[Region]>([])

  /// Offset 0 is nobody's.
  private static let firstOffset: UInt64 = 4096
  private static let endOfOffsets: UInt64 = 1 << 44

  /// - Parameter memory: a memory file that can be sealed, `length` bytes, whole pages.
  /// - Returns: the lowest free offset. iommufd: _iommufd_alloc_mmap()
  /// - Throws: `.noMemory`.
  func add(_ memory: OwnedDescriptor, length: UInt64) throws(Errno) -> UInt64 {
    let offset = regions.withLock { regions -> UInt64? in
      var (offset, index) = (Self.firstOffset, 0)
      while index < regions.count, regions[index].offset - offset < length {
        offset = regions[index].end
        index += 1
      }
      guard regions.count < Self.capacity, length <= Self.endOfOffsets - offset else { return nil }
      regions.insert(Region(offset: offset, length: length, memory: memory), at: index)
      return offset
    }
    guard let offset else { throw .noMemory }
    return offset
  }

  func remove(at offset: UInt64) {
    regions.withLock { $0.removeAll { $0.offset == offset } }
  }

  /// A region is mapped whole or not at all. iommufd: iommufd_fops_mmap()
  func mapping(at offset: UInt64, length: UInt64) throws(Errno) -> FileMapping {
    let (padded, overflow) = length.addingReportingOverflow(4095)
    let region = regions.withLock { $0.first { $0.offset == offset } }
    guard !overflow, let region, region.length == padded & ~4095 else {
      throw .noSuchAddressOrDevice
    }
    return FileMapping(descriptor: region.memory, offset: 0)
  }

  /// Whether a process maps the region: only the kernel knows, and says so by refusing to make the
  /// file immutable. A region that is not mapped cannot be mapped any more afterwards.
  func isMapped(at offset: UInt64) -> Bool {
    guard let region = regions.withLock({ $0.first { $0.offset == offset } }) else { return false }
    return !MemoryFile.forbidWriting(region.memory)
  }
}
