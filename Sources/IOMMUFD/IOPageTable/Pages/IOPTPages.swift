// Client pages that areas map (iommufd: struct iopt_pages): a linear piece of a process's addresses or of
// a file, made by one MAP and shared by every COPY of it and by both halves of an area that is cut.
//
// Pages are pinned only while somebody needs their physical address: an area whose page table has
// domains, or an access. Indexes count 4 KiB pages from the start. Users overlap freely; a page is
// pinned, and paid for, when its first user comes and let go with its last. What is pinned is
// kept as segments: ranges of indexes that have the same users, with their frames in runs, so that a large
// mapping of contiguous memory is one entry, not one for each page.
//
// Guarded by the control lock of the context: an open file shares its pages with no other.

internal import Host
internal import IOMMU
internal import SystemPackage
internal import UAPI

package final class IOPTPages: @unchecked Sendable {
  /// The pages that have the same users.
  private final class Segment {
    var users: Int
    var frames: [FrameRun]

    init(users: Int, frames: [FrameRun]) {
      self.users = users
      self.frames = frames
    }
  }

  let source: PageSource
  let pageCount: UInt64
  /// The mapping was made writable; only then can areas be.
  let isWritable: Bool
  private(set) var payer: PinAccount
  private(set) var pinnedCount: UInt64 = 0
  /// Not before it is needed: most mappings of a table without domains never are.
  private lazy var segments = IntervalMap<Segment>()
  let memory: PhysicalMemory
  let host: PinningHost
  /// Of a buffer that was taken back: areas of it lead nowhere.
  private(set) var isRevoked = false

  init(
    _ source: PageSource, pageCount: UInt64, isWritable: Bool, payer: PinAccount,
    memory: PhysicalMemory, host: PinningHost
  ) {
    self.source = source
    self.pageCount = pageCount
    self.isWritable = isWritable
    self.payer = payer
    self.memory = memory
    self.host = host
  }

  deinit {
    assert(pinnedCount == 0, "every user lets go of its pages")
  }

  /// Memory of a buffer, which only devices reach.
  var isBuffer: Bool {
    if case .buffer = source { true } else { false }
  }

  /// No page table leads to the pages any more, and none will.
  func revoke() {
    assert(pinnedCount == 0, "the areas are empty")
    isRevoked = true
  }

  // MARK: Users

  /// Adds a user of the pages `first` through `last`.
  /// - Parameter caller: the address space of the client whose call needs the pages, if one's does.
  /// - Returns: their frames, in order.
  /// - Throws: what the pin or its payment says; nothing has changed then.
  func pin(
    _ first: UInt64, through last: UInt64, caller: AddressSpace?
  ) throws(Errno) -> [FrameRun] {
    cut(at: first)
    if last < .max { cut(at: last + 1) }
    var added = try pinHoles(from: first, through: last, caller: caller)[...]
    var frames: [FrameRun] = []
    var next = segments.firstSpan(overlapping: first, through: last)
    while let segment = next {
      while let new = added.first, new.first < segment.first {
        frames.join(new.value.frames)
        segments.insert(added.removeFirst())
      }
      segment.value.users += 1
      frames.join(segment.value.frames)
      next = segments.span(after: segment, through: last)
    }
    for new in added {
      frames.join(new.value.frames)
      segments.insert(new)
    }
    return frames
  }

  /// Takes back one user of the pages, which have one.
  func unpin(_ first: UInt64, through last: UInt64) {
    cut(at: first)
    if last < .max { cut(at: last + 1) }
    var released: UInt64 = 0
    var next = segments.firstSpan(overlapping: first, through: last)
    while let segment = next {
      next = segments.span(after: segment, through: last)
      segment.value.users -= 1
      guard segment.value.users == 0 else { continue }
      segments.remove(containing: segment.first)
      memory.unpin(segment.value.frames)
      released += segment.count
    }
    pinnedCount -= released
    payer.release(released, in: host.lockedMemory)
    host.lockedMemory.noteRelease(of: released, for: payer.addressSpace)
  }

  /// The frames of pages that have a user.
  func frames(_ first: UInt64, through last: UInt64) -> [FrameRun] {
    var frames: [FrameRun] = []
    var next = segments.firstSpan(overlapping: first, through: last)
    while let segment = next {
      let skipped = first > segment.first ? first - segment.first : 0
      let count = min(last, segment.last) - segment.first - skipped + 1
      let part = segment.value.frames.parts(at: Int(skipped)).after
      frames.join(part.parts(at: Int(count)).before)
      next = segments.span(after: segment, through: last)
    }
    return frames
  }

  /// The first of `indexes` that either all have a user, or all have none.
  func uniformPart(
    of indexes: ClosedRange<UInt64>
  ) -> (part: ClosedRange<UInt64>, hasUsers: Bool) {
    let (first, last) = (indexes.lowerBound, indexes.upperBound)
    guard let next = segments.firstSpan(overlapping: first, through: last) else {
      return (indexes, false)
    }
    if next.first > first { return (first...next.first - 1, false) }
    return (first...min(last, next.last), true)
  }

  // MARK: Changing hands

  /// Another process has taken over and has paid. iommufd: change_mm()
  func change(payer: PinAccount) {
    if self.payer.differs(from: payer) { self.payer.release(pinnedCount, in: host.lockedMemory) }
    host.lockedMemory.noteRelease(of: pinnedCount, for: self.payer.addressSpace)
    host.lockedMemory.notePins(pinnedCount, for: payer.addressSpace)
    self.payer = payer
  }

  // MARK: Segments

  /// Pins and pays for what has no user yet.
  private func pinHoles(
    from first: UInt64, through last: UInt64, caller: AddressSpace?
  ) throws(Errno) -> [Interval<Segment>] {
    var added: [Interval<Segment>] = []
    do throws(Errno) {
      var index = first
      var next = segments.firstSpan(overlapping: first, through: last)
      while true {
        let end = next?.first ?? last + 1
        if index < end {
          try FaultInjection.step()
          let frames = try source.pin(
            index..<end, isWritable: isWritable, caller: caller, memory: memory, files: host.files)
          added.append(
            Interval(first: index, last: end - 1, value: Segment(users: 1, frames: frames)))
        }
        guard let segment = next else { break }
        index = segment.last + 1
        next = segments.span(after: segment, through: last)
      }
      // Paid for when everything is pinned, as pfn_reader_update_pinned() does.
      let count = added.reduce(0) { $0 + $1.count }
      try payer.book(count, in: host.lockedMemory)
      host.lockedMemory.notePins(count, for: payer.addressSpace)
      pinnedCount += count
    } catch {
      for span in added { memory.unpin(span.value.frames) }
      throw error
    }
    return added
  }

  /// Makes `index` the start of a segment, if it is inside one.
  private func cut(at index: UInt64) {
    guard let span = segments.span(containing: index), span.first < index else { return }
    let (before, after) = span.value.frames.parts(at: Int(index - span.first))
    let users = span.value.users
    segments.remove(containing: index)
    segments.insert(
      Interval(first: span.first, last: index - 1, value: Segment(users: users, frames: before)))
    segments.insert(
      Interval(first: index, last: span.last, value: Segment(users: users, frames: after)))
  }
}

extension [FrameRun] {
  /// Appends the runs, the first as part of our last when it follows it.
  mutating func join(_ runs: [FrameRun]) {
    guard let last, let next = runs.first,
      last.physical.rawValue + UInt64(last.pages) << 12 == next.physical.rawValue
    else { return append(contentsOf: runs) }
    self[count - 1] = FrameRun(physical: last.physical, pages: last.pages + next.pages)
    append(contentsOf: runs.dropFirst())
  }

  /// The runs of the first `count` pages, and of the others.
  func parts(at count: Int) -> (before: [FrameRun], after: [FrameRun]) {
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
