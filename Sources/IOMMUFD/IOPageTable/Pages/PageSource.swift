// SPDX-License-Identifier: Apache-2.0

// The source of mapped pages, and how to pin them. The checks are those of the kernel's
// pin_user_pages() and memfd_pin_folios(), made from outside of the process.

internal import Host
internal import IOMMU
internal import SystemPackage
internal import UAPI

/// The state that pins of all contexts share.
package final class PinningHost: Sendable {
  package static let shared = PinningHost()

  package let counters = PinCounters()
  package let files = ClientFiles()

  package init() {}
}

/// What a pin is for.
enum PinPurpose {
  /// Pages that stay pinned after the call. The kernel pins them where it can.
  case use
  /// The frames of pages for the time of a call: those that the pages already have, if any.
  case lookup
  /// A copy during the call. Memory of a process is used in place.
  case copy
}

/// `base` is the address or offset of page 0, a multiple of the page size.
enum PageSource {
  /// Addresses of a process.
  case user(AddressSpace, base: UInt64)
  /// A file of any kind; a pin checks that it is memory.
  case file(OwnedDescriptor, base: UInt64)
  /// A dma-buf, which its exporter can revoke.
  case buffer(DMABuffer, base: UInt64)

  /// Pins the pages of `indexes`, or none.
  /// - Returns: their frames, in order.
  /// - Throws: `.overflow` (of a process) or `.invalidArgument` (of a file) when the range does not
  ///   fit into 64 bits; `.badAddress` when a page of a process cannot be accessed or pinned;
  ///   `.invalidArgument` for pages behind the end of a file and a file that is not memory;
  ///   `.noMemory`.
  func pin(
    _ indexes: Range<UInt64>, isWritable: Bool, caller: AddressSpace?,
    memory: PhysicalMemory, files: ClientFiles, for purpose: PinPurpose
  ) throws(Errno) -> [FrameRun] {
    let range = try bytes(of: indexes)
    switch self {
    case .user(let space, _):
      let pin = ProcessPin(
        space: space, isWritable: isWritable, caller: caller, memory: memory, files: files,
        purpose: purpose)
      return try pin.pin(range)
    case .file(let file, _):
      let pin = FilePin(file: file, isWritable: isWritable, caller: caller, memory: memory)
      return try pin.pin(range)
    case .buffer(let buffer, _):
      return try memory.pin(.file(buffer.memory, offset: range.lowerBound), pages: range.pages)
    }
  }

  /// Finds the errors of ``pin(_:isWritable:caller:memory:files:for:)`` that can be found
  /// without faulting in a page.
  func check(
    _ indexes: Range<UInt64>, isWritable: Bool, memory: PhysicalMemory, files: ClientFiles
  ) throws(Errno) {
    let range = try bytes(of: indexes)
    switch self {
    case .user(let space, _):
      let pin = ProcessPin(
        space: space, isWritable: isWritable, caller: nil, memory: memory, files: files,
        purpose: .lookup)
      try pin.check(range)
    case .file(let file, _):
      try FilePin(file: file, isWritable: isWritable, caller: nil, memory: memory).check(range)
    case .buffer: break
    }
  }

  /// Returns the addresses or offsets of pages.
  /// - Throws: `.overflow` (of a process) or `.invalidArgument` (of a file).
  private func bytes(of indexes: Range<UInt64>) throws(Errno) -> Range<UInt64> {
    let (length, tooLong) = indexes.length.multipliedReportingOverflow(by: 4096)
    let (offset, tooFar) = indexes.lowerBound.multipliedReportingOverflow(by: 4096)
    let (base, failure): (UInt64, Errno) =
      switch self {
      // pin_user_pages_fast() refuses an end of 2^64 too.
      case .user(_, let base): (base, .overflow)
      case .file(_, let base): (base, .invalidArgument)
      // The mapping checked that the range is in the buffer.
      case .buffer(_, let base): (base, .invalidArgument)
      }
    let (start, overflow) = base.addingReportingOverflow(offset)
    let (end, wraps) = start.addingReportingOverflow(length)
    if tooLong || tooFar || overflow || wraps { throw failure }
    return start..<end
  }
}

/// A pin of addresses of a process.
private struct ProcessPin {
  let space: AddressSpace
  let isWritable: Bool
  let caller: AddressSpace?
  let memory: PhysicalMemory
  let files: ClientFiles
  let purpose: PinPurpose

  /// Pins one memory mapping of the process after the other. Unpins all when a page cannot be
  /// pinned.
  func pin(_ range: Range<UInt64>) throws(Errno) -> [FrameRun] {
    var frames: [FrameRun] = []
    do throws(Errno) {
      var address = range.lowerBound
      while address < range.upperBound {
        guard let area = try self.area(at: address) else { throw .badAddress }
        try FaultInjection.step(.badAddress)
        let end = min(area.end, range.upperBound)
        try requireAccess(to: area, address..<end)
        frames.join(try pin(address..<end, of: area))
        address = end
      }
    } catch {
      memory.unpin(frames)
      throw error
    }
    return frames
  }

  /// Finds the errors that can be found without faulting in a page.
  func check(_ range: Range<UInt64>) throws(Errno) {
    var address = range.lowerBound
    while address < range.upperBound {
      guard let area = try self.area(at: address) else { throw .badAddress }
      let end = min(area.end, range.upperBound)
      try requireAccess(to: area, address..<end)
      switch files.backing(of: area, in: space, forWriting: isWritable) {
      case .sharedMemory(let file): _ = try offset(of: address..<end, of: area, in: file)
      case .writtenBack where isWritable: throw .badAddress
      case .writtenBack, .inPlace: break
      }
      address = end
    }
  }

  private func area(at address: UInt64) throws(Errno) -> VirtualMemoryArea? {
    // The upper half belongs to the kernel. /proc/<pid>/maps lists its vsyscall page, which is no
    // memory of the process.
    if address >> 63 == 1 { return nil }
    do throws(Errno) {
      return try space.area(containing: address)
    } catch {
      throw .badAddress
    }
  }

  /// mm: check_vma_flags() for FOLL_LONGTERM. Pages that the processor has mapped for the process
  /// are not checked so (gup_fast()): a mapping with PROT_WRITE only can be pinned for reading once
  /// its pages were touched.
  private func requireAccess(
    to area: VirtualMemoryArea, _ range: Range<UInt64>
  ) throws(Errno) {
    if !area.access.contains(isWritable ? .write : .read) {
      guard !isWritable, area.access.contains(.write), space.areMapped(range) else {
        throw .badAddress
      }
    }
    if let file = area.file, files.isRefused(file) { throw .badAddress }
  }

  private func pin(
    _ range: Range<UInt64>, of area: VirtualMemoryArea
  ) throws(Errno) -> [FrameRun] {
    switch files.backing(of: area, in: space, forWriting: isWritable) {
    case .sharedMemory(let file):
      return try pin(range, of: area, in: file)
    case .writtenBack where isWritable:
      // FOLL_LONGTERM: a device must not write to pages that a file system writes back.
      throw .badAddress
    case .writtenBack: break
    case .inPlace:
      if purpose == .use, let frames = try pinExactly(range, of: area) { return frames }
    }
    guard faultIn(range, of: area) else { throw .badAddress }
    if purpose == .use { PinningReport.shared.recordPinInPlace() }
    return try memory.pin(.process(space, address: range.lowerBound), pages: range.pages)
  }

  /// Has the kernel pin the pages. It pins for writing only, so mappings that the process cannot
  /// write are used in place.
  /// - Returns: `nil` where the pages are used in place.
  private func pinExactly(
    _ range: Range<UInt64>, of area: VirtualMemoryArea
  ) throws(Errno) -> [FrameRun]? {
    guard area.access.contains(.write), let pins = space.pinning.pins else { return nil }
    let buffers: [PinnedBuffer]
    do throws(Errno) {
      buffers = try pinBuffers(range, of: area, pins)
    } catch {
      // Pages of a disk file can be pinned for reading although they cannot be for writing.
      if error == .badAddress, isWritable || !area.access.contains(.shared) { throw error }
      // The client has ended, or its agent was killed. The next call makes another agent.
      if error == .noSuchProcess {
        space.pinning.end()
        return nil
      }
      PinningReport.shared.explain(Self.reason(error))
      return nil
    }
    var frames: [FrameRun] = []
    do throws(Errno) {
      for buffer in buffers {
        frames.join(try memory.pin(.buffer(buffer), pages: buffer.pageCount))
      }
    } catch {
      memory.unpin(frames)
      throw error
    }
    PinningReport.shared.recordExactPin()
    return frames
  }

  /// The pages are faulted in before, so that the agent does not wait for them. Linux 6.1 does not
  /// ask the userfaultfd of a client for pages that io_uring pins (mm: __gup_longterm_locked()
  /// without a lock to release), so these are faulted in again after a failure.
  private func pinBuffers(
    _ range: Range<UInt64>, of area: VirtualMemoryArea, _ pins: ExactPins
  ) throws(Errno) -> [PinnedBuffer] {
    space.faultInForPin(range)
    do throws(Errno) {
      return try pins.pin(range, of: space)
    } catch {
      guard error == .badAddress, faultIn(range, of: area) else { throw error }
      return try pins.pin(range, of: space)
    }
  }

  private static func reason(_ error: Errno) -> String {
    switch error {
    case .noMemory: "io_uring exceeds RLIMIT_MEMLOCK of the user, or memory is short"
    case .resourceBusy: "another pin of the client waits for its memory"
    default: "the kernel does not pin such pages: \(error)"
    }
  }

  /// Pins pages of a shared mapping as pages of its file, or in place.
  private func pin(
    _ range: Range<UInt64>, of area: VirtualMemoryArea, in file: OwnedDescriptor
  ) throws(Errno) -> [FrameRun] {
    let start = try offset(of: range, of: area, in: file)
    guard space.faultInShared(range, forWriting: isWritable) else { throw .badAddress }
    let source: FrameSource =
      purpose == .copy
      ? .process(space, address: range.lowerBound) : .file(file, offset: start)
    return try memory.pin(source, pages: range.pages)
  }

  /// Returns the offset in the file of pages of a shared mapping.
  /// - Throws: `.badAddress` when some pages are behind the end of the file.
  private func offset(
    of range: Range<UInt64>, of area: VirtualMemoryArea, in file: OwnedDescriptor
  ) throws(Errno) -> UInt64 {
    let start = area.fileOffset &+ (range.lowerBound - area.start)
    let (end, overflow) = start.addingReportingOverflow(range.length)
    guard !overflow, let status = try? FileStatus(of: file), end <= status.wholeSize else {
      throw .badAddress
    }
    return start
  }

  /// Faults in the pages of the caller as its own access would. The pages of another process are
  /// only read, as by a debugger: their private copies are made by the first write.
  private func faultIn(_ range: Range<UInt64>, of area: VirtualMemoryArea) -> Bool {
    let pages = UInt64(range.pages)
    if caller === space, area.access.contains(.read),
      HostTask(id: space.processID)
        .faultIn(
          at: range.lowerBound, pages: pages, forWriting: isWritable, each: area.file != nil)
    {
      // A page in the middle can be a guard page (MADV_GUARD_INSTALL).
      return range.pages == 1 || area.file != nil || space.areReadable(range)
    }
    return space.touch(at: range.lowerBound, pages: pages)
  }
}

extension Range<UInt64> {
  /// `count` without the conversion to Int, which traps for some ranges that clients name.
  var length: UInt64 { upperBound - lowerBound }
  var pages: Int { Int(truncatingIfNeeded: length >> 12) }
}
