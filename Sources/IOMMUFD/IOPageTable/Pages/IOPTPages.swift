// SPDX-License-Identifier: Apache-2.0

// Client pages that areas map (iommufd: struct iopt_pages): a contiguous part of a process's
// addresses, of a file or of a dma-buf. One MAP makes the object. The areas of every COPY share it,
// and so do both parts of an area that is split.
//
// An index counts pages of 4 KiB from the start. A page is pinned while it has users: an area whose
// page table has domains, or an access. It is pinned and charged when its first user comes, and
// unpinned and uncharged when its last user goes. Users may overlap in any way. Pinned pages are
// stored in segments. A segment is a range of indexes with the same users; it stores its frames as
// runs, so that a large mapping of contiguous memory is one entry and not one per page.
//
// The areas own the object. It is guarded by the lock of the context, because no two contexts share
// pages. An unpin cannot fail.

internal import Host
internal import IOMMU
internal import SystemPackage
internal import UAPI

package final class IOPTPages: @unchecked Sendable {
  /// Pages with the same users.
  private final class Segment {
    /// The number of users, at least 1.
    var users: Int
    var frames: [FrameRun]

    init(users: Int, frames: [FrameRun]) {
      self.users = users
      self.frames = frames
    }
  }

  let source: PageSource
  let pageCount: UInt64
  /// Whether the MAP was for writing. Without it no area of the pages can be writable.
  let isWritable: Bool
  private(set) var account: PinAccount
  private(set) var pinnedCount: UInt64 = 0
  /// By index. Allocated by the first pin: most mappings of a table without domains are never
  /// pinned.
  private lazy var segments = IntervalMap<Segment>()
  let memory: PhysicalMemory
  let host: PinningHost
  /// Whether the exporter has revoked the dma-buf. The areas of the pages are then in no domain.
  private(set) var isRevoked = false

  init(
    _ source: PageSource, pageCount: UInt64, isWritable: Bool, account: PinAccount,
    memory: PhysicalMemory, host: PinningHost
  ) {
    self.source = source
    self.pageCount = pageCount
    self.isWritable = isWritable
    self.account = account
    self.memory = memory
    self.host = host
  }

  deinit {
    assert(pinnedCount == 0, "every user unpins")
  }

  /// Whether the pages are of a dma-buf, which only devices can access.
  var isBuffer: Bool {
    if case .buffer = source { true } else { false }
  }

  /// Marks the pages as revoked. No domain contains them any more, and none will.
  func revoke() {
    assert(pinnedCount == 0, "the areas have been unfilled")
    isRevoked = true
  }

  // MARK: Users

  /// Adds a user of the pages `first` through `last`. iommufd: iopt_area_fill_domains(),
  /// iopt_area_add_access()
  /// - Parameter caller: the address space of the client that makes the call, if a client does.
  /// - Returns: the frames of the pages, in order.
  /// - Throws: what pinning and charging throw; nothing has changed then.
  func pin(
    _ first: UInt64, through last: UInt64, caller: AddressSpace?
  ) throws(Errno) -> [FrameRun] {
    splitSegment(at: first)
    if last < .max { splitSegment(at: last + 1) }
    var added = try pinHoles(from: first, through: last, caller: caller)[...]
    var frames: [FrameRun] = []
    var next = segments.firstInterval(overlapping: first, through: last)
    while let segment = next {
      while let new = added.first, new.first < segment.first {
        frames.join(new.value.frames)
        segments.insert(added.removeFirst())
      }
      segment.value.users += 1
      frames.join(segment.value.frames)
      next = segments.interval(after: segment, through: last)
    }
    for new in added {
      frames.join(new.value.frames)
      segments.insert(new)
    }
    return frames
  }

  /// Removes a user of the pages, which must have one.
  func unpin(_ first: UInt64, through last: UInt64) {
    splitSegment(at: first)
    if last < .max { splitSegment(at: last + 1) }
    var unpinned: UInt64 = 0
    var next = segments.firstInterval(overlapping: first, through: last)
    while let segment = next {
      next = segments.interval(after: segment, through: last)
      segment.value.users -= 1
      guard segment.value.users == 0 else { continue }
      segments.remove(containing: segment.first)
      memory.unpin(segment.value.frames)
      unpinned += segment.count
    }
    pinnedCount -= unpinned
    account.uncharge(unpinned, in: host.counters)
    host.counters.removePinned(unpinned, from: account.addressSpace)
  }

  /// Returns the frames of pages that have a user.
  func frames(_ first: UInt64, through last: UInt64) -> [FrameRun] {
    var frames: [FrameRun] = []
    var next = segments.firstInterval(overlapping: first, through: last)
    while let segment = next {
      let skipped = first > segment.first ? first - segment.first : 0
      let count = min(last, segment.last) - segment.first - skipped + 1
      let part = segment.value.frames.split(at: Int(skipped)).after
      frames.join(part.split(at: Int(count)).before)
      next = segments.interval(after: segment, through: last)
    }
    return frames
  }

  /// Returns the longest start of `indexes` whose pages either all have a user or all have none.
  func uniformPrefix(
    of indexes: ClosedRange<UInt64>
  ) -> (prefix: ClosedRange<UInt64>, hasUsers: Bool) {
    let (first, last) = (indexes.lowerBound, indexes.upperBound)
    guard let next = segments.firstInterval(overlapping: first, through: last) else {
      return (indexes, false)
    }
    if next.first > first { return (first...next.first - 1, false) }
    return (first...min(last, next.last), true)
  }

  // MARK: Accounting

  /// Replaces the account. The new one has been charged already. pinned_vm changes with the charge:
  /// pages that are not charged stay counted for the old address space, and are subtracted from the
  /// new one when they are unpinned. iommufd: iommufd_ioas_change_process(), need_charge_update()
  func change(account new: PinAccount) {
    if account.needsCharge(onChangeTo: new) {
      account.uncharge(pinnedCount, in: host.counters)
      host.counters.removePinned(pinnedCount, from: account.addressSpace)
      host.counters.addPinned(pinnedCount, from: new.addressSpace)
    }
    account = new
  }

  // MARK: Segments

  /// Pins and charges the pages that have no user yet.
  private func pinHoles(
    from first: UInt64, through last: UInt64, caller: AddressSpace?
  ) throws(Errno) -> [Interval<Segment>] {
    let holes = self.holes(from: first, through: last)
    let count = holes.reduce(0) { $0 + ($1.upperBound - $1.lowerBound) }
    try requireAllowance(for: holes, count: count)
    var added: [Interval<Segment>] = []
    do throws(Errno) {
      for hole in holes {
        try FaultInjection.step()
        let frames = try source.pin(
          hole, isWritable: isWritable, caller: caller, memory: memory, files: host.files)
        added.append(
          Interval(
            first: hole.lowerBound, last: hole.upperBound - 1,
            value: Segment(users: 1, frames: frames)))
      }
      // Charged after everything is pinned, as pfn_reader_update_pinned() does.
      try account.charge(count, in: host.counters)
      host.counters.addPinned(count, from: account.addressSpace)
      pinnedCount += count
    } catch {
      for segment in added { memory.unpin(segment.value.frames) }
      throw error
    }
    return added
  }

  /// Returns the pages that have no user.
  private func holes(from first: UInt64, through last: UInt64) -> [Range<UInt64>] {
    var holes: [Range<UInt64>] = []
    var index = first
    var next = segments.firstInterval(overlapping: first, through: last)
    while true {
      let end = next?.first ?? last + 1
      if index < end { holes.append(index..<end) }
      guard let segment = next else { return holes }
      index = segment.last + 1
      next = segments.interval(after: segment, through: last)
    }
  }

  /// The number of pages from which on the limit is tested before pages are faulted in. The kernel
  /// tests it afterwards, but then a client could make the host allocate any amount of memory
  /// for a call that fails.
  private static let largePin: UInt64 = 256

  /// - Throws: `.noMemory` when charging `count` pages would exceed the limit and nothing else is
  ///   wrong with the pages.
  private func requireAllowance(for holes: [Range<UInt64>], count: UInt64) throws(Errno) {
    guard count >= Self.largePin, !account.allows(count, in: host.counters) else { return }
    for hole in holes {
      try source.check(hole, isWritable: isWritable, memory: memory, files: host.files)
    }
    throw .noMemory
  }

  /// Splits the segment that contains `index`, so that a segment begins there.
  private func splitSegment(at index: UInt64) {
    guard let segment = segments.interval(containing: index), segment.first < index else { return }
    let (before, after) = segment.value.frames.split(at: Int(index - segment.first))
    let users = segment.value.users
    segments.remove(containing: index)
    segments.insert(
      Interval(first: segment.first, last: index - 1, value: Segment(users: users, frames: before)))
    segments.insert(
      Interval(first: index, last: segment.last, value: Segment(users: users, frames: after)))
  }
}

extension [FrameRun] {
  /// Appends `runs`. Merges the first of them with the last one here when it follows that in
  /// memory.
  mutating func join(_ runs: [FrameRun]) {
    guard let last, let next = runs.first,
      last.physical.rawValue + UInt64(last.pages) << 12 == next.physical.rawValue
    else { return append(contentsOf: runs) }
    self[count - 1] = FrameRun(physical: last.physical, pages: last.pages + next.pages)
    append(contentsOf: runs.dropFirst())
  }

  /// Returns the runs of the first `count` pages, and the runs of the others.
  fileprivate func split(at count: Int) -> (before: [FrameRun], after: [FrameRun]) {
    if count <= 0 { return ([], self) }
    var left = count
    for (index, run) in self.enumerated() {
      if run.pages > left {
        var (before, after) = (Array(self[..<index]), Array(self[(index + 1)...]))
        let middle = PhysicalAddress(run.physical.rawValue + UInt64(left) << 12)
        if left > 0 { before.append(FrameRun(physical: run.physical, pages: left)) }
        after.insert(FrameRun(physical: middle, pages: run.pages - left), at: 0)
        return (before, after)
      }
      left -= run.pages
    }
    return (self, [])
  }
}
