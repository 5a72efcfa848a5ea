// SPDX-License-Identifier: Apache-2.0

// Operations of the selftest interface that check mappings: whether a domain maps IOVAs to the
// caller's pages, and how often the caller's pages are pinned.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

enum MappingOperations {
  /// ADD_RESERVED. The reservation stays as long as the IOAS.
  /// selftest.c: iommufd_test_add_reserved()
  static func addReserved(_ command: inout TestCommand) throws(Errno) {
    let arguments = command.arguments
    let (start, length) = (arguments.add_reserved.start, arguments.add_reserved.length)
    guard length > 0 else { throw .invalidArgument }
    let (last, overflow) = start.addingReportingOverflow(length - 1)
    guard !overflow else { throw .overflow }
    let context = command.context
    try context.lock.withLock { () throws(Errno) in
      try context.ioas(ObjectID(arguments.id)).pageTable.reserve(start...last, for: nil)
    }
  }

  /// SET_TEMP_MEMORY_LIMIT. selftest.c: iommufd_test()
  static func setMemoryLimit(_ command: inout TestCommand, _ selftest: Selftest) throws(Errno) {
    let limit = command.arguments.memory_limit.limit
    // The kernel's smallest batch has one PFN and one count.
    guard limit >= 12 else { throw .invalidArgument }
    selftest.temporaryMemoryLimit = limit
  }

  // MARK: MD_CHECK_MAP

  /// selftest.c: iommufd_test_md_check_pa()
  static func checkMap(_ command: inout TestCommand) throws(Errno) {
    let check = command.arguments.check_map
    let context = command.context
    let (hwpt, domain) = try context.lock.withLock { [command] () throws(Errno) in
      let (hwpt, domain) = try command.mockHWPT()
      // A user instead of the lock, because the caller's pages are faulted in.
      hwpt.addUser()
      return (hwpt, domain)
    }
    defer { context.lock.withLock { hwpt.dropUser() } }
    let step = domain.smallestPage
    let (end, overflow) = check.uptr.addingReportingOverflow(check.length)
    guard !overflow, (check.iova | check.length | check.uptr) & (step - 1) == 0 else {
      throw .invalidArgument
    }
    let pages = CallerPages(command.client, context.memory)
    var (iova, address) = (check.iova, check.uptr)
    while address < end {
      let frames = try pages.frames(from: address & ~4095, to: end)
      let stop = min(end, address & ~4095 + UInt64(frames.count) << 12)
      let start = address & ~4095
      while address < stop {
        let frame = frames[Int(address - start) >> 12]
        guard let mapped = domain.physicalAddress(of: IOVA(iova)),
          mapped.rawValue & 4095 == address & 4095,
          try pages.isPage(
            PhysicalAddress(mapped.rawValue & ~4095), at: address & ~4095, found: frame)
        else {
          throw .invalidArgument
        }
        iova &+= step
        address += step
      }
    }
  }

  // MARK: MD_CHECK_REFS

  /// selftest.c: iommufd_test_md_check_refs()
  static func checkReferences(_ command: inout TestCommand) throws(Errno) {
    let check = command.arguments.check_refs
    let (end, overflow) = check.uptr.addingReportingOverflow(check.length)
    guard !overflow, (check.length | check.uptr) & 4095 == 0 else { throw .invalidArgument }
    let memory = command.context.memory
    DeferredReleases.shared.waitForEarlier()
    let pages = CallerPages(command.client, memory)
    var address = check.uptr
    while address < end {
      let frames = try pages.frames(from: address, to: end)
      for frame in frames {
        guard try pages.pinCount(of: frame, at: address) == Int(check.refs) else { throw .ioError }
        address += 4096
      }
    }
  }
}

/// Finds the frames of a caller's pages. A look-up pins the pages and unpins them again, because a
/// page has a frame only while it is pinned.
struct CallerPages {
  /// The number of pages that one look-up pins.
  private static let batch: UInt64 = 4096

  private let client: any Client
  private let memory: PhysicalMemory

  init(_ client: any Client, _ memory: PhysicalMemory) {
    self.client = client
    self.memory = memory
  }

  /// Returns the frames of one or more pages from `start` on.
  /// - Throws: `.badAddress` when the first page cannot be pinned; EOVERFLOW for the last page of
  ///   all addresses, whose end is no address (mm: gup_fast_fallback()).
  func frames(from start: UInt64, to end: UInt64) throws(Errno) -> [PhysicalAddress] {
    let count = min((end - start + 4095) >> 12, Self.batch)
    if count > 1, let frames = try? frames(from: start, count: count) { return frames }
    return try frames(from: start, count: 1)
  }

  func frames(from start: UInt64, count: UInt64) throws(Errno) -> [PhysicalAddress] {
    guard start < .max - 4095 else { throw .overflow }
    let space = try client.addressSpace()
    let runs = try PageSource.user(space, base: start).pin(
      0..<count, isWritable: false, caller: space, memory: memory,
      files: PinningHost.shared.files, for: .lookup)
    defer { memory.unpin(runs) }
    return runs.flatMap(\.frames)
  }

  /// Returns whether `frame` stands for the page at `address`.
  /// - Parameter found: the frame that was found for `address`.
  func isPage(
    _ frame: PhysicalAddress, at address: UInt64, found: PhysicalAddress
  ) throws(Errno) -> Bool {
    if frame == found { return true }
    return memory.isBuffer(frame, at: address, of: try client.addressSpace())
  }

  /// Returns the number of pins of the page at `address`.
  /// - Parameter found: the frame that was found for `address`.
  func pinCount(of found: PhysicalAddress, at address: UInt64) throws(Errno) -> Int {
    memory.pinCount(of: found)
      + memory.bufferCount(at: address, of: try client.addressSpace())
  }
}

extension FrameRun {
  var frames: [PhysicalAddress] {
    (0..<UInt64(pages)).map { PhysicalAddress(physical.rawValue + $0 << 12) }
  }
}
