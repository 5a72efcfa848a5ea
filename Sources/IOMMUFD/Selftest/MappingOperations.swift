// Operations that look at mappings from the other side: do tables lead to the pages that the caller
// has, and how often are these pinned.

internal import CUAPI
internal import Host
internal import IOMMU
internal import SystemPackage
internal import UAPI

enum MappingOperations {
  /// ADD_RESERVED. Nothing takes it back. selftest.c: iommufd_test_add_reserved()
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
    // The kernel's smallest batch: a frame and a count.
    guard limit >= 12 else { throw .invalidArgument }
    selftest.temporaryMemoryLimit = limit
  }

  // MARK: MD_CHECK_MAP

  /// selftest.c: iommufd_test_md_check_pa()
  static func checkMap(_ command: inout TestCommand) throws(Errno) {
    let check = command.arguments.check_map
    let context = command.context
    try context.lock.withLock { [command] () throws(Errno) in
      let domain = try command.mockHWPT().domain
      let step = domain.smallestPage
      let (end, overflow) = check.uptr.addingReportingOverflow(check.length)
      guard !overflow, (check.iova | check.length | check.uptr) & (step - 1) == 0 else {
        throw Errno.invalidArgument
      }
      let pages = CallersPages(command.client, context.memory)
      var (iova, address) = (check.iova, check.uptr)
      while address < end {
        let frames = try pages.frames(from: address & ~4095, to: end)
        let stop = min(end, address & ~4095 + UInt64(frames.count) << 12)
        let start = address & ~4095
        while address < stop {
          let frame = frames[Int(address - start) >> 12].rawValue
          guard domain.physicalAddress(of: IOVA(iova))?.rawValue == frame | address & 4095 else {
            throw Errno.invalidArgument
          }
          iova &+= step
          address += step
        }
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
    let pages = CallersPages(command.client, memory)
    var address = check.uptr
    while address < end {
      let frames = try pages.frames(from: address, to: end)
      for frame in frames where memory.pinCount(of: frame) != Int(check.refs) {
        throw .ioError
      }
      address += UInt64(frames.count) << 12
    }
  }
}

/// Which frames a caller's pages are. To be asked for they are pinned for a moment, so that pages that
/// nobody has pinned have an answer too.
struct CallersPages {
  private static let batch: UInt64 = 4096

  private let client: any Client
  private let memory: PhysicalMemory

  init(_ client: any Client, _ memory: PhysicalMemory) {
    self.client = client
    self.memory = memory
  }

  /// Frames of one or more pages from `start` on.
  /// - Throws: `.badAddress` when the first page cannot be had; EOVERFLOW for the last page of all
  ///   addresses, whose end is not looked at as an address any more (mm: gup_fast_fallback()).
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
      files: PinningHost.shared.files)
    defer { memory.unpin(runs) }
    return runs.flatMap(\.frames)
  }
}

extension FrameRun {
  var frames: [PhysicalAddress] {
    (0..<UInt64(pages)).map { PhysicalAddress(physical.rawValue + $0 << 12) }
  }
}
