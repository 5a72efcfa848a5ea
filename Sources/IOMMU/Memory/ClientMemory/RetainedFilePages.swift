// SPDX-License-Identifier: Apache-2.0

// Pages of mapped files that stay what they were when they were pinned.
//
// A client can take a page away from its file: fallocate(2) with FALLOC_FL_PUNCH_HOLE, madvise(2)
// with MADV_REMOVE, ftruncate(2). On a real host a device continues to use the pinned page, and the
// file gets a new one. Here the kernel keeps the page as a buffer of io_uring, and userfaultfd
// stops the first access that finds the page table entry gone. Then a private page of this server
// with the contents of the pinned one replaces the mapping. No device sees the difference, and all
// accesses stay memory accesses.
//
// The page table of this server has an entry for each retained page from the start. So an entry
// that is gone shows that the file has lost the page. A host that evicts pages of files removes
// entries too; there a page whose contents are those of the file's page is taken for the same page.
//
// Where the host permits no io_uring or no userfaultfd, and beyond RLIMIT_MEMLOCK of this server's
// user, pages are used in place: they follow the file.
//
// `FileMappings` owns the state, guarded by the lock of `PhysicalMemory.clients`. The thread of
// `FilePageFaults` takes that lock while accesses wait. So no thread accesses mapped files under
// it.

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage

struct RetainedFilePages {
  private struct Registration {
    let frames: Range<Int>
    /// The number in `buffers`.
    let buffer: UInt32
    var mappedFrames: Int
  }

  private enum State {
    case unused
    case watching(FilePageFaults, pagemap: OwnedDescriptor)
    case unavailable
  }

  /// Released before `reservation`, whose range it refers to.
  private var state: State
  private let reservation: Reservation
  private let window: FrameWindow
  private let buffers = PageBuffers()
  /// Called by the thread that handles faults. Set before the first page is retained.
  private var resolver: FilePageFaults.Resolver?
  /// For each frame, the index in `registrations` plus 1, or 0.
  private let owners: SparseArray<UInt32>
  private var registrations = SlotArray<Registration>()
  /// Frames whose page the file has lost.
  private var replaced: Set<Int> = []
  /// Host mappings that replaced frames take besides those of their files.
  private(set) var extraMappings = 0
  private let mappingLimit: Int

  /// The frames that one fault replaces at most.
  private static let largestReplacement = 512

  /// - Parameter mappingLimit: the highest value of `extraMappings`.
  init(in reservation: Reservation, limits: PhysicalMemory.Limits, mappingLimit: Int) {
    self.reservation = reservation
    self.mappingLimit = mappingLimit
    window = reservation.window
    owners = reservation.owners
    state = limits.pinning == .exact ? .unused : .unavailable
  }

  /// The number of runs of pages that are retained.
  var count: Int { registrations.count }

  /// Sets the function that resolves faults. It takes the lock and calls ``resolve(_:of:in:)``.
  mutating func setResolver(_ resolver: @escaping FilePageFaults.Resolver) {
    self.resolver = resolver
  }

  // MARK: Retaining

  /// Retains the pages of `frames`, which are mapped for writing and not retained. Where the host
  /// refuses, the pages are used in place.
  mutating func retain(_ frames: Range<Int>) {
    guard let faults = watcher() else { return }
    let base = window.pointer(PhysicalAddress(frame: frames.lowerBound))
    let count = frames.count << Frame.shift
    // Many pages at a time, where the pin below would fault them in one by one.
    CLinux_map_file_pages(base, count)
    do throws(Errno) {
      let buffer = try buffers.pin(base, count: count)
      do throws(Errno) {
        try faults.watch(base, count: count)
      } catch {
        buffers.unpin(buffer)
        throw error
      }
      add(Registration(frames: frames, buffer: buffer, mappedFrames: frames.count))
    } catch {
      Self.report(Self.reason(error))
    }
  }

  private mutating func watcher() -> FilePageFaults? {
    switch state {
    case .watching(let faults, _): return faults
    case .unavailable: return nil
    case .unused: break
    }
    guard let resolver else { return nil }
    do throws(Errno) {
      let pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)
      guard pagemap >= 0 else { throw Errno(rawValue: errno) }
      let descriptor = OwnedDescriptor(owning: pagemap)
      let faults = try FilePageFaults(in: window.base, answer: resolver)
      state = .watching(faults, pagemap: descriptor)
      return faults
    } catch {
      state = .unavailable
      Self.report("userfaultfd(2) is not available: \(error)")
      return nil
    }
  }

  private static func report(_ reason: String) {
    PinningReport.shared.explain(reason, of: "shared memory")
  }

  private static func reason(_ error: Errno) -> String {
    switch error {
    case .noMemory: "io_uring exceeds RLIMIT_MEMLOCK of the user, or memory is short"
    default: "io_uring is not available: \(error)"
    }
  }

  private mutating func add(_ registration: Registration) {
    owners.set(UInt32(registrations.add(registration) + 1), registration.frames)
  }

  /// Ends the retention of `frames`, which are about to be unmapped.
  mutating func release(_ frames: Range<Int>) {
    guard !registrations.isUnused, !owners.areAll(0, frames) else { return }
    var frame = frames.lowerBound
    while frame < frames.upperBound {
      let index = Int(owners.base[frame]) - 1
      guard index >= 0, var registration = registrations[index] else {
        frame += 1
        continue
      }
      // A page inside that was unpinned and pinned again has a registration of its own.
      let part = owners.run(from: frame, to: frames.upperBound)
      owners.set(0, part)
      forgetReplaced(part)
      registration.mappedFrames -= part.count
      registrations[index] = registration.mappedFrames > 0 ? registration : nil
      if registration.mappedFrames == 0 { buffers.unpin(registration.buffer) }
      frame = part.upperBound
    }
  }

  private mutating func forgetReplaced(_ frames: Range<Int>) {
    if replaced.isEmpty { return }
    var wasReplaced = false
    for frame in frames {
      let isReplaced = replaced.remove(frame) != nil
      if isReplaced, !wasReplaced { extraMappings = max(0, extraMappings - 2) }
      wasReplaced = isReplaced
    }
    if replaced.isEmpty { extraMappings = 0 }
  }

  func isRetained(_ frame: Int) -> Bool { owners.base[frame] != 0 }

  // MARK: Lost pages

  /// Replaces those of `frames` that no longer stand for the page that their file has.
  /// - Returns: whether any of `frames` is replaced.
  mutating func replaceLost(_ frames: Range<Int>, in chunk: ClientChunk) -> Bool {
    guard case .watching(_, let pagemap) = state, !owners.areAll(0, frames) else { return false }
    for run in absentRuns(in: frames, pagemap) {
      var frame = run.lowerBound
      while frame < run.upperBound {
        let granule = granuleRange(of: frame, in: chunk)
        if isRetained(frame), !isReplaced(frame), !mayBeFilePage(frame, in: chunk) {
          replace(granule)
        }
        frame = granule.upperBound
      }
    }
    return !replaced.isEmpty && frames.contains { replaced.contains($0) }
  }

  func isReplaced(_ frame: Int) -> Bool { replaced.contains(frame) }

  /// Decides what an access to `frame` of `chunk` sees that has found no page table entry.
  /// - Returns: the frames whose accesses are repeated, and the answer.
  mutating func resolve(
    _ kind: FilePageFaults.Kind, of frame: Int, in chunk: ClientChunk
  ) -> (frames: Range<Int>, FilePageFaults.Answer) {
    let granule = granuleRange(of: frame, in: chunk)
    guard isRetained(frame), case .watching(_, let pagemap) = state else { return (granule, .file) }
    // Another access to the page, or to one beside it, came first.
    if replaced.contains(frame) { return (granule, .replaced) }
    if kind == .unmapped, mayBeFilePage(frame, in: chunk) { return (granule, .file) }
    guard granule.count == 1, !Self.hostMayEvict else {
      return (granule, replace(granule) ? .replaced : .file)
    }
    // A hole is often larger than a page. It is replaced by one mapping.
    let block = frame & -Self.largestReplacement
    let index = Int(owners.base[frame])
    let around = (block..<block + Self.largestReplacement).runs { Int(owners.base[$0]) == index }
    let near = around.first { $0.contains(frame) } ?? granule
    let run = absentRuns(in: near, pagemap).first { $0.contains(frame) } ?? granule
    let fresh = run.runs { !replaced.contains($0) }.first { $0.contains(frame) } ?? granule
    return (fresh, replace(fresh) ? .replaced : .file)
  }

  /// Replaces the mappings of `frames`, of one registration, by copies of the pinned pages.
  /// - Returns: false when the host refuses.
  @discardableResult
  private mutating func replace(_ frames: Range<Int>) -> Bool {
    let index = Int(owners.base[frames.lowerBound]) - 1
    guard extraMappings + 2 <= mappingLimit, index >= 0, let registration = registrations[index]
    else { return false }
    let count = frames.count << Frame.shift
    let copy = mmap(nil, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let copy, copy != MAP_FAILED else { return false }
    madvise(copy, count, MADV_DONTDUMP)
    let place = window.pointer(PhysicalAddress(frame: frames.lowerBound))
    guard
      buffers.read(
        registration.buffer, at: place,
        into: UnsafeMutableRawBufferPointer(start: copy, count: count)),
      CLinux_move_pages_to(copy, place, count) == 0
    else {
      munmap(copy, count)
      return false
    }
    replaced.formUnion(frames)
    extraMappings += 2
    return true
  }

  /// Returns the frames that the host can only map together with `frame`.
  private func granuleRange(of frame: Int, in chunk: ClientChunk) -> Range<Int> {
    guard case .file(let file) = chunk.backing else { return frame..<frame + 1 }
    let granule = file.pageSize >> Frame.shift
    return frame & -granule..<frame & -granule + granule
  }

  /// Returns the runs of `frames` that the page table of this process does not have.
  private func absentRuns(in frames: Range<Int>, _ pagemap: OwnedDescriptor) -> [Range<Int>] {
    let base = UInt64(UInt(bitPattern: window.base))
    let end = base + UInt64(frames.upperBound) << UInt64(Frame.shift)
    var address = base + UInt64(frames.lowerBound) << UInt64(Frame.shift)
    var runs: [Range<Int>] = []
    var last: UInt64 = 0
    while address < end,
      CLinux_pagemap_absent(pagemap.rawValue, address, end, false, &address, &last) == 1
    {
      runs.append(
        Int((address - base) >> UInt64(Frame.shift))..<Int((last - base) >> UInt64(Frame.shift)))
      address = last
    }
    return runs
  }

  // MARK: Hosts that evict pages

  /// Whether the host may have removed the page table entry of `frame` without a change of the
  /// file, and the file's page has the same contents as the pinned one.
  private func mayBeFilePage(_ frame: Int, in chunk: ClientChunk) -> Bool {
    guard Self.hostMayEvict, case .file(let file) = chunk.backing,
      let registration = registrations[Int(owners.base[frame]) - 1]
    else { return false }
    let place = window.pointer(PhysicalAddress(frame: frame))
    return withUnsafeTemporaryAllocation(byteCount: 2 * Frame.size, alignment: 8) { bytes in
      let pinned = UnsafeMutableRawBufferPointer(rebasing: bytes[..<Frame.size])
      let present = UnsafeMutableRawBufferPointer(rebasing: bytes[Frame.size...])
      return buffers.read(registration.buffer, at: place, into: pinned)
        && file.read(at: chunk.sourceOffset(ofFrame: frame), into: present) == Frame.size
        && pinned.elementsEqual(present)
    }
  }

  /// Whether pages of shared memory are swapped out or joined to huge pages on this host.
  private static var hostMayEvict: Bool {
    let swaps = (try? ProcFile.read("/proc/swaps")) ?? ""
    let hugePages =
      (try? ProcFile.read("/sys/kernel/mm/transparent_hugepage/shmem_enabled")) ?? "[never]"
    return swaps.split(separator: "\n").count > 1
      || !hugePages.contains("[never]") && !hugePages.contains("[deny]")
  }
}
