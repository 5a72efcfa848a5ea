// SPDX-License-Identifier: Apache-2.0

// Copies between mapped pages and memory of this server, by the processor.

internal import Host
internal import IOMMU
internal import SystemPackage
internal import UAPI

/// Memory of this server that a copy reads from or writes to.
enum CopyBuffer {
  /// The copy reads client pages into the buffer.
  case destination(UnsafeMutableRawBufferPointer)
  /// The copy writes the buffer to client pages.
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
  /// Copies with the access rights of the client, when the pages are memory of the client's own
  /// process. Needs no lock. iommufd: the fast path of iopt_pages_rw_access()
  /// - Returns: `false` when the pages belong to another process, to a file or to a dma-buf.
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

  /// Copies through frames: the whole buffer, or nothing when a page cannot be pinned. The
  /// context's lock is held. iommufd: iopt_pages_rw_page(), iopt_pages_rw_slow()
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
        // A single page is pinned anew, with the access of the copy and not that of the mapping.
        frames = try pages.pinForCopy(first...first, isWritable: buffer.isWrite, caller: caller)
        temporary = frames
      } catch {
        // The process has just ended. The copy uses the frame if the page is pinned.
        let (_, hasUsers) = pages.uniformPrefix(of: first...last)
        guard error == .badAddress, space !== caller, hasUsers else { throw error }
        frames = pages.frames(first, through: last)
      }
    } else {
      frames = []
      var rest = first...last
      while true {
        let (part, hasUsers) = pages.uniformPrefix(of: rest)
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
  /// Pins pages for the time of a copy. Such pins are not charged.
  fileprivate func pinForCopy(
    _ indexes: ClosedRange<UInt64>, isWritable: Bool, caller: AddressSpace?
  ) throws(Errno) -> [FrameRun] {
    try source.pin(
      indexes.lowerBound..<indexes.upperBound + 1, isWritable: isWritable, caller: caller,
      memory: memory, files: host.files, inPlace: true)
  }

  /// - Parameter offset: where the copy begins, in bytes from the start of `frames`.
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
