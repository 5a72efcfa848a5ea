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

  /// Copies through frames: the whole buffer, or nothing when a page cannot be pinned. The caller
  /// must not hold the context's lock. iommufd: iopt_pages_rw_page(), iopt_pages_rw_slow()
  func copy(_ buffer: CopyBuffer, caller: AddressSpace?) throws(Errno) {
    let first = startByte >> 12
    let last = (startByte + length - 1) >> 12
    var hasEnded = false
    if first == last, case .user(let space, _) = pages.source, space === caller || !space.isGone {
      try FaultInjection.step(.invalidArgument)
      // A single page is pinned anew, with the access of the copy and not that of the mapping.
      if let frames = try pages.pinForCopy(first, isWritable: buffer.isWrite, caller: caller) {
        defer { pages.memory.unpin(frames) }
        return try pages.copy(buffer, at: startByte & 4095, of: frames)
      }
      hasEnded = true
    }
    try pages.withFrames(first, through: last, mustHaveUsers: hasEnded, caller: caller) {
      frames throws(Errno) in
      try pages.copy(buffer, at: startByte & 4095, of: frames)
    }
  }
}

extension IOPTPages {
  /// Pins a page of a process for the time of a copy. Such a pin is not charged.
  /// - Returns: `nil` when the process is not the caller and its page cannot be pinned, because it
  ///   may have just ended.
  fileprivate func pinForCopy(
    _ index: UInt64, isWritable: Bool, caller: AddressSpace?
  ) throws(Errno) -> [FrameRun]? {
    do throws(Errno) {
      return try source.pin(
        index..<index + 1, isWritable: isWritable, caller: caller, memory: memory,
        files: host.files, for: .copy)
    } catch {
      if case .user(let space, _) = source, space !== caller, error == .badAddress { return nil }
      throw error
    }
  }

  /// Calls `body` with the frames of pages, which stay pinned meanwhile.
  /// - Parameter mustHaveUsers: whether a page without user is EFAULT instead of being pinned.
  fileprivate func withFrames(
    _ first: UInt64, through last: UInt64, mustHaveUsers: Bool, caller: AddressSpace?,
    _ body: ([FrameRun]) throws(Errno) -> Void
  ) throws(Errno) {
    let hold = withLock { self.hold(first, through: last) }
    defer { withLock { release(hold) } }
    if mustHaveUsers, !hold.holes.isEmpty { throw .badAddress }
    let pinned = try pinHoles(hold, isTemporary: true, caller: caller)
    defer { for hole in pinned { memory.unpin(hole.frames) } }
    let frames = withLock { self.frames(of: hold, pinned) }
    try body(frames)
  }

  private func withLock<Result>(_ body: () -> Result) -> Result {
    guard let lock else { return body() }
    return lock.withLock(body)
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
