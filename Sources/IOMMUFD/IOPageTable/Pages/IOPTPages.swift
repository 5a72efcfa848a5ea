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
// pages. A pin releases the lock while it faults pages in, which can take as long as the client
// likes (userfaultfd, FUSE), and others may pin or unpin the same pages meanwhile. So a pin has
// three steps: with the lock it becomes a user of the pages that have users already (`hold`);
// without the lock it pins the others; with the lock it adds them (`add`), except those that others
// have added meanwhile. An unpin cannot fail.

internal import Host
internal import IOMMU
internal import SystemPackage
internal import UAPI

package final class IOPTPages: @unchecked Sendable {
  /// Pages with the same users.
  fileprivate final class Segment {
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
  /// The lock of the context. `nil` in tests of one thread.
  let lock: AssertableLock?
  /// Whether the exporter has revoked the dma-buf. The areas of the pages are then in no domain.
  private(set) var isRevoked = false

  init(
    _ source: PageSource, pageCount: UInt64, isWritable: Bool, account: PinAccount,
    memory: PhysicalMemory, host: PinningHost, lock: AssertableLock? = nil
  ) {
    self.source = source
    self.pageCount = pageCount
    self.isWritable = isWritable
    self.account = account
    self.memory = memory
    self.host = host
    self.lock = lock
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

  /// Adds a user of the pages `first` through `last`. Releases the lock while pages are faulted in.
  /// iommufd: iopt_area_fill_domains(), iopt_area_add_access()
  /// - Parameter caller: the address space of the client that makes the call, if a client does.
  /// - Returns: the frames of the pages, in order.
  /// - Throws: what pinning and charging throw; nothing has changed then.
  func pin(
    _ first: UInt64, through last: UInt64, caller: AddressSpace?
  ) throws(Errno) -> [FrameRun] {
    let hold = hold(first, through: last)
    if hold.holes.isEmpty { return frames(first, through: last) }
    do throws(Errno) {
      let account = account
      let pinned = try withoutLock { () throws(Errno) in
        try requireAllowance(for: hold, account)
        return try pinHoles(hold, isTemporary: false, caller: caller)
      }
      let hasOverlap = try add(pinned)
      if !hasOverlap, hold.holes == [hold.pages] { return pinned[0].frames }
    } catch {
      release(hold)
      throw error
    }
    return frames(first, through: last)
  }

  /// Removes a user of the pages, which must have one.
  func unpin(_ first: UInt64, through last: UInt64) {
    splitSegments(first, through: last)
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

  // MARK: Accounting

  /// Whether charging `count` more pages would exceed the limit of the account.
  func exceedsLimit(_ count: UInt64) -> Bool { !account.allows(count, in: host.counters) }

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

  // MARK: The steps of a pin

  /// A range of pages that a call becomes a user of, and the parts of it that had no user when the
  /// call began. The call is a user of all other pages of the range.
  struct Hold {
    let pages: ClosedRange<UInt64>
    let holes: [ClosedRange<UInt64>]
  }

  /// Pages that are pinned in physical memory and are not in a segment.
  struct PinnedHole {
    let pages: ClosedRange<UInt64>
    let frames: [FrameRun]
  }

  /// Returns the frames of a range, in order, before its holes are added.
  func frames(of hold: Hold, _ pinned: [PinnedHole]) -> [FrameRun] {
    var all: [FrameRun] = []
    var index = hold.pages.lowerBound
    for hole in pinned {
      if index < hole.pages.lowerBound {
        all.join(frames(index, through: hole.pages.lowerBound - 1))
      }
      all.join(hole.frames)
      if hole.pages.upperBound >= hold.pages.upperBound { return all }
      index = hole.pages.upperBound + 1
    }
    all.join(frames(index, through: hold.pages.upperBound))
    return all
  }

  /// Runs `body` without the lock, except for a dma-buf: its pages are always there, and its
  /// revocation must not come between the steps.
  func withoutLock<Result>(
    _ body: () throws(Errno) -> Result
  ) throws(Errno) -> Result {
    guard let lock, !isBuffer else { return try body() }
    return try lock.withoutLock(body)
  }

  /// Adds a user of those pages that have one.
  func hold(_ first: UInt64, through last: UInt64) -> Hold {
    guard pinnedCount > 0 else { return Hold(pages: first...last, holes: [first...last]) }
    splitSegments(first, through: last)
    var holes: [ClosedRange<UInt64>] = []
    var index = first
    var next = segments.firstInterval(overlapping: first, through: last)
    while let segment = next {
      if index < segment.first { holes.append(index...segment.first - 1) }
      segment.value.users += 1
      if segment.last >= last { return Hold(pages: first...last, holes: holes) }
      index = segment.last + 1
      next = segments.interval(after: segment, through: last)
    }
    holes.append(index...last)
    return Hold(pages: first...last, holes: holes)
  }

  /// Undoes ``hold(_:through:)``.
  func release(_ hold: Hold) {
    var index = hold.pages.lowerBound
    for hole in hold.holes {
      if index < hole.lowerBound { unpin(index, through: hole.lowerBound - 1) }
      if hole.upperBound >= hold.pages.upperBound { return }
      index = hole.upperBound + 1
    }
    unpin(index, through: hold.pages.upperBound)
  }

  /// Faults the pages of the holes in and pins them. The lock is not needed.
  /// - Parameter isTemporary: the pages are not pinned for a user, but for the time of a copy.
  func pinHoles(
    _ hold: Hold, isTemporary: Bool, caller: AddressSpace?
  ) throws(Errno) -> [PinnedHole] {
    var pinned: [PinnedHole] = []
    do throws(Errno) {
      for hole in hold.holes {
        if !isTemporary { try FaultInjection.step() }
        let frames = try source.pin(
          hole.lowerBound..<hole.upperBound + 1, isWritable: isWritable, caller: caller,
          memory: memory, files: host.files, for: isTemporary ? .copy : .use)
        pinned.append(PinnedHole(pages: hole, frames: frames))
      }
    } catch {
      for hole in pinned { memory.unpin(hole.frames) }
      throw error
    }
    return pinned
  }

  /// Adds pinned holes as segments with one user, and charges them. Where another call has added a
  /// segment meanwhile, it gets one user more, and the frames that were pinned twice lose one pin.
  /// - Returns: whether another call has added a segment meanwhile.
  /// - Throws: `.noMemory`; the holes are as before then.
  private func add(_ holes: [PinnedHole]) throws(Errno) -> Bool {
    var added: [Interval<Segment>] = []
    var covered: [ClosedRange<UInt64>] = []
    for hole in holes {
      let (first, last) = (hole.pages.lowerBound, hole.pages.upperBound)
      splitSegments(first, through: last)
      var rest = hole.frames
      var index = first
      var next = segments.firstInterval(overlapping: first, through: last)
      while let segment = next {
        next = segments.interval(after: segment, through: last)
        added.append(rest, from: index, to: segment.first)
        rest = rest.split(at: Int(segment.first - index)).after
        let (twice, others) = rest.split(at: Int(segment.count))
        memory.unpin(twice)
        rest = others
        segment.value.users += 1
        covered.append(segment.first...segment.last)
        index = segment.last &+ 1
      }
      added.append(rest, from: index, to: last + 1)
    }
    // Charged after everything is pinned, as pfn_reader_update_pinned() does.
    let count = added.reduce(0) { $0 + $1.count }
    do throws(Errno) {
      try account.charge(count, in: host.counters)
    } catch {
      for segment in added { memory.unpin(segment.value.frames) }
      for range in covered { unpin(range.lowerBound, through: range.upperBound) }
      throw error
    }
    host.counters.addPinned(count, from: account.addressSpace)
    pinnedCount += count
    for segment in added { segments.insert(segment) }
    return !covered.isEmpty
  }

  // MARK: Segments

  /// Splits segments so that they begin and end where a range does.
  private func splitSegments(_ first: UInt64, through last: UInt64) {
    if first > 0 { splitSegment(at: first) }
    if last < pageCount - 1 { splitSegment(at: last + 1) }
  }

  /// The number of pages from which on the limit is tested before pages are faulted in. The kernel
  /// tests it afterwards, but then a client could make the host allocate any amount of memory
  /// for a call that fails.
  private static let largePin: UInt64 = 256

  /// - Throws: `.noMemory` when charging the holes to `account` would exceed the limit and nothing
  ///   else is wrong with the pages.
  private func requireAllowance(for hold: Hold, _ account: PinAccount) throws(Errno) {
    let count = hold.holes.reduce(0) { $0 + ($1.upperBound - $1.lowerBound + 1) }
    guard count >= Self.largePin, !account.allows(count, in: host.counters) else { return }
    for hole in hold.holes {
      try source.check(
        hole.lowerBound..<hole.upperBound + 1, isWritable: isWritable, memory: memory,
        files: host.files)
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

extension [Interval<IOPTPages.Segment>] {
  /// Appends a segment with one user for the pages `first` to `end`, if there are any, whose frames
  /// `runs` begins with.
  fileprivate mutating func append(_ runs: [FrameRun], from first: UInt64, to end: UInt64) {
    guard first < end else { return }
    let frames = runs.split(at: Int(end - first)).before
    append(
      Interval(
        first: first, last: end - 1, value: IOPTPages.Segment(users: 1, frames: frames)))
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
