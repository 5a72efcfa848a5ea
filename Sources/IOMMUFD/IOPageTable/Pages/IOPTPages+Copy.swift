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

  /// Copies by way of frames: all of it or, where a page is not to be had, nothing. The lock is held.
  /// iommufd: iopt_pages_rw_page(), iopt_pages_rw_slow()
  func copy(_ buffer: CopyBuffer, caller: AddressSpace?) throws(Errno) {
    let first = startByte >> 12
    let last = (startByte + length - 1) >> 12
    var temporary: [FrameRun] = []
    defer { pages.memory.unpin(temporary) }
    var frames: [FrameRun]
    if first == last, case .user(let space, _) = pages.source,
      space === caller || !space.isGone
    {
      try FaultInjection.step(.invalidArgument)
      do throws(Errno) {
        // One page is pinned anew, for what the copy itself does to it.
        frames = try pages.pinForCopy(first...first, isWritable: buffer.isWrite, caller: caller)
        temporary = frames
      } catch {
        // Its process has just ended: then what is pinned serves.
        let (_, hasUsers) = pages.uniformPart(of: first...last)
        guard error == .badAddress, space !== caller, hasUsers else { throw error }
        frames = pages.frames(first, through: last)
      }
    } else {
      frames = []
      var rest = first...last
      while true {
        let (part, hasUsers) = pages.uniformPart(of: rest)
        if hasUsers {
          frames.join(pages.frames(part.lowerBound, through: part.upperBound))
        } else {
          let new = try pages.pinForCopy(part, isWritable: pages.isWritable, caller: caller)
          temporary += new
          frames.join(new)
        }
        if part.upperBound == last { break }
        rest = part.upperBound + 1...last
      }
    }
    try pages.copy(buffer, at: startByte & 4095, of: frames)
  }
}

extension IOPTPages {
  /// Nobody pays for these pins.
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
