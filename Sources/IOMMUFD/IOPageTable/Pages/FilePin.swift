// SPDX-License-Identifier: Apache-2.0

// A pin of pages of a file that the client names by a descriptor. mm: memfd_pin_folios()

internal import Host
internal import IOMMU
internal import SystemPackage
internal import UAPI

struct FilePin {
  let file: OwnedDescriptor
  let isWritable: Bool
  let caller: AddressSpace?
  let memory: PhysicalMemory

  /// Pins whole pages of the file, and allocates those that are missing. The access mode of the
  /// descriptor does not matter: a read-only one is reopened when a device will write.
  /// - Throws: `.invalidArgument` for a file that is not memory and for pages behind its end,
  ///   `.noSpace` when its file system is full, `.noMemory`.
  func pin(_ range: Range<UInt64>) throws(Errno) -> [FrameRun] {
    let status = try check(range)
    try FaultInjection.step(.badAddress)
    if status.hasHoles {
      do throws(Errno) {
        try (file.reopenedForWriting() ?? file).allocate(range)
      } catch {
        // mm: hugetlb_reserve_pages() has one errno for all reasons.
        throw status.hasHugePages ? .noMemory : error
      }
    }
    if isWritable, file.isSealedAgainstWriting, let caller,
      let frames = pin(range, of: status.identity, in: caller)
    {
      return frames
    }
    let opened = isWritable ? file.reopenedForWriting() ?? file : file
    return try memory.pin(.file(opened, offset: range.lowerBound), pages: range.pages)
  }

  /// - Throws: `.invalidArgument`.
  @discardableResult
  func check(_ range: Range<UInt64>) throws(Errno) -> FileStatus {
    guard let status = try? FileStatus(of: file), status.isMemory,
      range.upperBound <= UInt64(Int64.max), range.upperBound <= status.size
    else { throw .invalidArgument }
    return status
  }

  /// Pins the pages where the caller maps them. This process cannot map a file for writing that is
  /// sealed against it, and memfd_pin_folios() ignores seals.
  /// - Returns: `nil`, with nothing pinned, when the caller has no writable mapping of all pages.
  private func pin(
    _ range: Range<UInt64>, of identity: FileIdentity, in space: AddressSpace
  ) -> [FrameRun]? {
    var frames: [FrameRun] = []
    var offset = range.lowerBound
    while offset < range.upperBound {
      guard let area = try? space.writableArea(of: identity, at: offset) else { break }
      let address = area.start + (offset - area.fileOffset)
      let length = min(area.end - address, range.upperBound - offset)
      guard space.faultInShared(address..<address + length, forWriting: true),
        let part = try? memory.pin(.process(space, address: address), pages: Int(length >> 12))
      else { break }
      frames.join(part)
      offset += length
    }
    if offset == range.upperBound { return frames }
    memory.unpin(frames)
    return nil
  }
}
