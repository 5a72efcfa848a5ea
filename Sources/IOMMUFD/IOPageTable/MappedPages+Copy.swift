// Copying to and from mapped pages by the processor.

internal import Host
internal import IOMMU
internal import SystemPackage
internal import UAPI

/// Memory of this server that is copied from or to.
enum CopyBuffer {
  /// Client pages are read into it.
  case destination(UnsafeMutableRawBufferPointer)
  /// It is written to client pages.
  case source(UnsafeRawBufferPointer)

  var count: Int {
    switch self {
    case .destination(let buffer): buffer.count
    case .source(let buffer): buffer.count
    }
  }

  var isWrite: Bool {
    if case .source = self { true } else { false }
  }

  subscript(_ range: Range<Int>) -> CopyBuffer {
    switch self {
    case .destination(let buffer): .destination(.init(rebasing: buffer[range]))
    case .source(let buffer): .source(.init(rebasing: buffer[range]))
    }
  }
}

extension PageSlice {
  /// Copies as the caller itself does, if the pages are of its own memory. Needs no lock.
  /// iommufd: iopt_pages_rw_access(), the fast path
  /// - Returns: false when the pages are somebody else's.
  func copyDirectly(_ buffer: CopyBuffer, by client: any Client) throws(Errno) -> Bool {
    guard case .user(let space, let base) = pages.source,
      let own = try? client.addressSpace(), own === space
    else { return false }
    let (address, overflow) = base.addingReportingOverflow(startByte)
    guard !overflow else { throw .badAddress }
    switch buffer {
    case .destination(let bytes): try client.copyIn(from: address, into: bytes)
    case .source(let bytes): try client.copyOut(bytes, to: address)
    }
    return true
  }

  /// Copies by way of frames, page by page where not all pages are to be had. The lock is held.
  /// iommufd: iopt_pages_rw_page(), iopt_pages_rw_slow()
  func copy(_ buffer: CopyBuffer, caller: AddressSpace?) throws(Errno) {
    let first = startByte >> 12
    let last = (startByte + length - 1) >> 12
    if first == last, case .user(let space, _) = pages.source, !space.isGone {
      try FaultInjection.step(.invalidArgument)
      // One page is pinned anew, for what the copy itself does to it.
      let frames = try pages.pinForCopy(first...first, isWritable: buffer.isWrite, caller: caller)
      defer { pages.memory.unpin(frames) }
      return try pages.copy(buffer, at: startByte & 4095, of: frames)
    }
    var (index, done) = (first, 0)
    while index <= last {
      let piece = try pages.borrow(index...last, caller: caller)
      defer { if piece.isTemporary { pages.memory.unpin(piece.frames) } }
      let skipped = done == 0 ? startByte & 4095 : 0
      let pageCount = piece.frames.reduce(0) { $0 + $1.pages }
      let count = min(pageCount << 12 - Int(skipped), buffer.count - done)
      try pages.copy(buffer[done..<done + count], at: skipped, of: piece.frames)
      done += count
      index += UInt64(pageCount)
    }
  }
}

extension MappedPages {
  /// Frames of the first pages of `indexes`: of one page or more. Nobody pays for temporary pins.
  fileprivate func borrow(
    _ indexes: ClosedRange<UInt64>, caller: AddressSpace?
  ) throws(Errno) -> (frames: [FrameRun], isTemporary: Bool) {
    let (part, isPinned) = uniformPart(of: indexes)
    if isPinned { return (frames(part.lowerBound, through: part.upperBound), false) }
    do throws(Errno) {
      return (try pinForCopy(part, isWritable: isWritable, caller: caller), true)
    } catch {
      // pin_user_pages() pins what it can; memfd_pin_folios() all or none.
      guard case .user = source, part.count > 1 else { throw error }
      let first = part.lowerBound
      return (try pinForCopy(first...first, isWritable: isWritable, caller: caller), true)
    }
  }

  fileprivate func pinForCopy(
    _ indexes: ClosedRange<UInt64>, isWritable: Bool, caller: AddressSpace?
  ) throws(Errno) -> [FrameRun] {
    try source.pin(
      indexes.lowerBound..<indexes.upperBound + 1, isWritable: isWritable, caller: caller,
      memory: memory, files: host.files)
  }

  /// Copies to or from `offset` bytes behind the start of `frames`.
  fileprivate func copy(
    _ buffer: CopyBuffer, at offset: UInt64, of frames: [FrameRun]
  ) throws(Errno) {
    var (offset, done) = (offset, 0)
    for run in frames where done < buffer.count {
      let count = min(run.pages << 12 - Int(offset), buffer.count - done)
      let address = PhysicalAddress(run.physical.rawValue + offset)
      let outcome =
        switch buffer[done..<done + count] {
        case .destination(let bytes): memory.read(address, into: bytes)
        case .source(let bytes): memory.write(bytes, to: address)
        }
      guard outcome == .done else { throw .badAddress }
      done += count
      offset = 0
    }
  }
}
