// Where mapped pages come from, and what it takes to pin them: the checks of the kernel's
// pin_user_pages() and memfd_pin_folios(), made from outside the process.

internal import Host
internal import IOMMU
internal import SystemPackage
internal import UAPI

/// What pins of all contexts of this server share.
package final class PinningHost: Sendable {
  package static let shared = PinningHost()

  package let lockedMemory = LockedMemory()
  package let files = ClientFiles()

  package init() {}
}

enum PageSource {
  /// Addresses of a process. Page 0 is at `base`.
  case user(AddressSpace, base: UInt64)
  /// A file, whatever it is: that it is memory is looked at when it is pinned. Page 0 is at `base`.
  case file(OwnedDescriptor, base: UInt64)
  /// Memory that its exporter can take back. Page 0 is at `base`.
  case buffer(DMABuffer, base: UInt64)

  /// Pins the pages of `indexes`, or none.
  /// - Returns: their frames, in order.
  func pin(
    _ indexes: Range<UInt64>, isWritable: Bool, caller: AddressSpace?,
    memory: PhysicalMemory, files: ClientFiles
  ) throws(Errno) -> [FrameRun] {
    let (bytes, tooLong) = indexes.length.multipliedReportingOverflow(by: 4096)
    let (offset, tooFar) = indexes.lowerBound.multipliedReportingOverflow(by: 4096)
    switch self {
    case .user(let space, let base):
      let (start, overflow) = base.addingReportingOverflow(offset)
      // pin_user_pages_fast(): the end must be a number.
      let (end, wraps) = start.addingReportingOverflow(bytes)
      if tooLong || tooFar || overflow || wraps { throw .overflow }
      let pin = UserPin(
        space: space, isWritable: isWritable, caller: caller, memory: memory, files: files)
      return try pin.pin(start..<end)
    case .file(let file, let base):
      let (start, overflow) = base.addingReportingOverflow(offset)
      let (end, wraps) = start.addingReportingOverflow(bytes)
      if tooLong || tooFar || overflow || wraps { throw .invalidArgument }
      return try Self.pin(file, start..<end, isWritable: isWritable, memory: memory)
    case .buffer(let buffer, let base):
      // That it lies in the buffer was looked at when it was mapped.
      return try memory.pin(
        .file(buffer.memory, offset: base &+ offset), pages: (base..<base &+ bytes).pages)
    }
  }

  /// mm: memfd_pin_folios(). Whole pages must lie within the file. For what the file was opened
  /// is not asked: a descriptor that can only read is reopened when a device will write.
  private static func pin(
    _ file: OwnedDescriptor, _ range: Range<UInt64>, isWritable: Bool, memory: PhysicalMemory
  ) throws(Errno) -> [FrameRun] {
    guard let status = try? FileStatus(of: file), status.isMemory,
      range.upperBound <= UInt64(Int64.max), range.upperBound <= status.size
    else { throw .invalidArgument }
    try FaultInjection.step(.badAddress)
    var file = file
    if isWritable, let writable = file.reopenedForWriting() { file = writable }
    if status.hasHoles { try file.allocate(range) }
    return try memory.pin(
      .file(file, offset: range.lowerBound), pages: range.pages)
  }
}

/// A pin of addresses of a process.
private struct UserPin {
  let space: AddressSpace
  let isWritable: Bool
  let caller: AddressSpace?
  let memory: PhysicalMemory
  let files: ClientFiles

  /// Mapping by mapping; the first page that cannot be pinned fails the whole.
  func pin(_ range: Range<UInt64>) throws(Errno) -> [FrameRun] {
    var frames: [FrameRun] = []
    do throws(Errno) {
      var address = range.lowerBound
      while address < range.upperBound {
        guard let area = try self.area(at: address) else { throw .badAddress }
        try FaultInjection.step(.badAddress)
        try requireAccess(to: area)
        let end = min(area.end, range.upperBound)
        frames.join(try pin(address..<end, of: area))
        address = end
      }
    } catch {
      memory.unpin(frames)
      throw error
    }
    return frames
  }

  private func area(at address: UInt64) throws(Errno) -> VirtualMemoryArea? {
    // The upper half is the kernel's; its vsyscall page is listed but is no memory of the process.
    if address >> 63 == 1 { return nil }
    do throws(Errno) {
      return try space.area(containing: address)
    } catch {
      throw .badAddress
    }
  }

  /// mm: check_vma_flags() for FOLL_LONGTERM. A device may not write to pages that a file system
  /// wants to write back.
  private func requireAccess(to area: VirtualMemoryArea) throws(Errno) {
    guard area.access.contains(isWritable ? .write : .read) else { throw .badAddress }
    if let file = area.file, files.isRefused(file) { throw .badAddress }
  }

  private func pin(
    _ range: Range<UInt64>, of area: VirtualMemoryArea
  ) throws(Errno) -> [FrameRun] {
    switch files.backing(of: area, in: space, forWriting: isWritable) {
    case .sharedMemory(let file):
      return try pin(range, of: area, in: file)
    case .writtenBack where isWritable:
      throw .badAddress
    case .writtenBack, .inPlace:
      guard faultIn(range, of: area) else { throw .badAddress }
      return try memory.pin(.process(space, address: range.lowerBound), pages: range.pages)
    }
  }

  /// Pages of the mapping behind the end of its file cannot be accessed.
  private func pin(
    _ range: Range<UInt64>, of area: VirtualMemoryArea, in file: OwnedDescriptor
  ) throws(Errno) -> [FrameRun] {
    let start = area.fileOffset &+ (range.lowerBound - area.start)
    let (end, overflow) = start.addingReportingOverflow(range.length)
    guard !overflow, let status = try? FileStatus(of: file), end <= status.wholeSize else {
      throw .badAddress
    }
    if status.hasHoles {
      do throws(Errno) {
        try file.allocate(start..<end)
      } catch {
        throw error == .noMemory ? .noMemory : .badAddress
      }
    }
    return try memory.pin(.file(file, offset: start), pages: range.pages)
  }

  /// In the caller as by its own access. In another process, as by a debugger: private copies of its
  /// pages are then made by the first write.
  private func faultIn(_ range: Range<UInt64>, of area: VirtualMemoryArea) -> Bool {
    let pages = UInt64(range.pages)
    if caller === space, area.access.contains(.read),
      HostTask(id: space.processID)
        .faultIn(
          at: range.lowerBound, pages: pages, forWriting: isWritable, each: area.file != nil)
    {
      return true
    }
    return space.touch(at: range.lowerBound, pages: pages)
  }
}

extension Range<UInt64> {
  /// `count` without the conversion to Int, which not every client's range survives.
  fileprivate var length: UInt64 { upperBound - lowerBound }
  fileprivate var pages: Int { Int(truncatingIfNeeded: length >> 12) }
}
