// SPDX-License-Identifier: Apache-2.0

// The open files of all programs, by the identity of their stand-in files.
//
// A program's close(2) is not trapped. The kernel reports the last close: by an inotify event for
// the deletion of a memfd, by a hang-up of a socket pair. Both events are there before that
// close(2) returns, or before the parent of a killed process can wait for the process. So a worker
// that first processes the pending events (`processPendingEvents(for:)`) sees each close that came
// before the call it is about to answer, and a file is released in the order in which a kernel
// would release it, unless the release takes long (`FileReleases`).

internal import CLinux
internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

final class OpenFileTable: Sendable {
  /// The descriptor numbers of the queues in the table.
  let numbers = QueueNumbers()

  private struct Slot {
    let entry: OpenFileEntry
    /// The number of calls on the file that are being answered. The last one to end releases a file
    /// that is closed.
    var calls = 0
    var isClosed = false
  }

  private struct State {
    var slots: [StandInIdentity: Slot] = [:]
    /// Stand-in memfds by their inotify watch descriptors.
    var watches: [Int32: StandInIdentity] = [:]
    /// Queues by the descriptor number of the server's end.
    var queues: [Int32: StandInIdentity] = [:]
    /// The number of files ever opened, and of files ever released.
    var opened = 0
    var released = 0

    mutating func insert(_ slot: Slot) {
      slots[slot.entry.identity] = slot
      opened += 1
    }
  }

  private let state = Mutex(State())
  private let fileSystems = StandInFileSystems()
  /// Queues whose readiness may have changed and has not been updated in their stand-ins.
  private let wakeups = Mutex<Set<StandInIdentity>>([])
  /// Whether `wakeups` may have elements.
  private let hasWakeups = Atomic(false)
  /// Held while wake-ups are delivered, so that a second caller returns after they have been.
  private let delivering = Mutex(())
  /// Held while events are processed, so that a second caller returns after they have been.
  private let processing = Mutex(())

  private let releases = FileReleases()
  /// One thread waits for events, others run releases.
  private let eventThreads = JobThreads(named: "last-close")
  /// The processes whose first release the caller of `processPendingEvents()` must run.
  private let closers = Mutex<[Int32]>([])
  private let locks = StandInLocks()
  private let inotify: OwnedDescriptor
  private let epoll: EpollSet
  /// An eventfd that is signalled for each wake-up.
  private let wakeEvent: OwnedDescriptor

  init() throws(Errno) {
    inotify = try Self.checked(inotify_init1(Int32(IN_CLOEXEC | IN_NONBLOCK)))
    epoll = try EpollSet()
    wakeEvent = try Self.checked(eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK)))
    try watch(inotify, for: EPOLLIN.rawValue)
    try watch(wakeEvent, for: EPOLLIN.rawValue)
  }

  private static func checked(_ result: Int32) throws(Errno) -> OwnedDescriptor {
    try OwnedDescriptor(checking: result < 0 ? -errno : result)
  }

  private func watch(_ descriptor: OwnedDescriptor, for events: UInt32) throws(Errno) {
    try epoll.add(descriptor.rawValue, events: events, tag: descriptor.rawValue)
  }

  /// The number of open files, and the number of files ever opened.
  var counts: (open: Int, opened: Int) {
    state.withLock { ($0.opened - $0.released, $0.opened) }
  }

  // MARK: Opening

  /// Adds `file`, which process `opener` opened from the node `entry`. The table releases the file,
  /// also when this function throws.
  /// - Returns: the stand-in file for the program. `file` is released with the last copy of this
  ///   descriptor.
  /// - Parameter flags: the status flags of the open file (F_GETFL).
  func add(
    _ file: any OpenFile, of entry: VirtualEntry, flags: Int32 = O_RDWR, by opener: Int32
  ) throws(Errno) -> OwnedDescriptor {
    do {
      return try add(file, path: entry.path, flags: flags) { identity throws(Errno) in
        try OpenFileEntry(
          identity: identity, file: file, opener: opener, node: entry, flags: flags)
      }.standIn
    } catch {
      file.release()
      throw error
    }
  }

  /// Adds a virtual file, as ``add(_:of:flags:by:)``.
  func add(
    _ file: any OpenFile, path: String, by opener: Int32
  ) throws(Errno) -> OwnedDescriptor {
    do {
      return try add(file, path: path, flags: O_RDWR) { identity throws(Errno) in
        try OpenFileEntry(
          identity: identity, file: file, opener: opener, position: FilePosition())
      }.standIn
    } catch {
      file.release()
      throw error
    }
  }

  /// Adds a file that a device has made. When this function throws, the device still owns the file.
  /// - Returns: the entry, and the stand-in file for the program.
  func add(
    madeByDevice file: any OpenFile, by opener: Int32
  ) throws(Errno) -> (entry: OpenFileEntry, standIn: OwnedDescriptor) {
    if file.hasPoll { return try add(queue: file, by: opener) }
    return try add(file, path: file.linkText, flags: O_RDWR) { identity throws(Errno) in
      try OpenFileEntry(identity: identity, file: file, opener: opener)
    }
  }

  private func add(
    _ file: any OpenFile, path: String, flags: Int32,
    as makeEntry: (StandInIdentity) throws(Errno) -> OpenFileEntry
  ) throws(Errno) -> (entry: OpenFileEntry, standIn: OwnedDescriptor) {
    let standIn = try StandInFile.make(
      for: path, hasRegions: file.hasRegions, flags: flags)
    let identity = try StandInIdentity(of: standIn)
    fileSystems.add(identity)
    let entry = try makeEntry(identity)
    let link = "/proc/self/fd/\(standIn.rawValue)"
    try state.withLock { state throws(Errno) in
      let watch = inotify_add_watch(inotify.rawValue, link, UInt32(IN_DELETE_SELF))
      guard watch >= 0 else { throw errno == ENOSPC ? .noMemory : Errno(rawValue: errno) }
      state.watches[watch] = identity
      state.insert(Slot(entry: entry))
    }
    return (entry, standIn)
  }

  /// Adds a queue that a device has made, as ``add(madeByDevice:by:)``.
  private func add(
    queue file: any OpenFile, by opener: Int32
  ) throws(Errno) -> (entry: OpenFileEntry, standIn: OwnedDescriptor) {
    let (queue, theirs) = try QueueStandIn.make(
      file.readiness(), for: ClientIdentity(user: 0, process: opener))
    let identity = queue.identity
    fileSystems.add(identity, ofQueue: true)
    let entry = try OpenFileEntry(
      identity: identity, file: file, opener: opener, queue: queue)
    state.withLock { state in
      state.queues[queue.descriptor.rawValue] = identity
      state.insert(Slot(entry: entry))
    }
    do {
      try watch(queue.descriptor, for: EPOLLHUP.rawValue)
    } catch {
      withdraw(entry)
      throw error
    }
    file.setReadinessObserver { [weak self] in self?.recordWakeup(of: identity) }
    queue.updateReadiness(file)
    return (entry, theirs)
  }

  /// Reverses ``add(madeByDevice:by:)`` for a file that no program has got. The device owns the
  /// file again, and the table does not release it.
  func withdraw(_ entry: OpenFileEntry) {
    entry.file.setReadinessObserver(nil)
    state.withLock { state in
      if let queue = entry.queue {
        epoll.remove(queue.descriptor.rawValue)
        state.queues[queue.descriptor.rawValue] = nil
      }
      state.watches = state.watches.filter { $0.value != entry.identity }
      if state.slots.removeValue(forKey: entry.identity) != nil { state.opened -= 1 }
    }
  }

  /// Observes the last close of `entry` through the lock of its stand-in file, because the server
  /// maps that file through its open file `own`.
  func watchLock(of entry: OpenFileEntry, through own: OwnedDescriptor) throws(Errno) {
    try locks.watch(entry.identity, own) { [weak self] in self?.processPendingEvents() }
  }

  // MARK: Calls

  /// Begins a call on the file that a program's descriptor refers to. The file is not released
  /// before ``endCall(on:)``.
  /// - Returns: `nil` when the descriptor does not refer to a stand-in.
  func beginCall(on descriptor: Int32, of task: HostTask) throws(Errno) -> OpenFileEntry? {
    beginCall(on: try StandInIdentity(of: descriptor, in: task))
  }

  /// As ``beginCall(on:of:)``, for the file whose stand-in has `identity`.
  func beginCall(on identity: StandInIdentity) -> OpenFileEntry? {
    state.withLock { state in
      guard state.slots[identity]?.isClosed == false else { return nil }
      state.slots[identity]?.calls += 1
      return state.slots[identity]?.entry
    }
  }

  /// Whether a file that is not in the table may be the stand-in of one that was closed: it is on
  /// the file system of the memfds or of the sockets.
  func mayHaveBeenStandIn(_ file: StandInIdentity) -> Bool { fileSystems.contains(file) }

  /// Whether the file is a stand-in of an open file.
  func contains(_ file: StandInIdentity) -> Bool {
    state.withLock { $0.slots[file]?.isClosed == false }
  }

  /// The queue whose stand-in has the inode number.
  func queue(inode: UInt64) -> StandInIdentity? {
    state.withLock { $0.queues.values.first { $0.inode == inode } }
  }

  /// The entry of the node whose open file `file` stands for.
  func node(of file: StandInIdentity) -> VirtualEntry? {
    state.withLock { $0.slots[file]?.entry.node }
  }

  /// Whether the file is the stand-in of an open device or of a virtual file.
  func isStandIn(_ file: StandInIdentity) -> Bool {
    state.withLock { $0.slots[file].map { $0.entry.queue == nil } ?? false }
  }

  /// Ends a call that ``beginCall(on:)`` began.
  func endCall(on entry: OpenFileEntry) {
    let isLast = state.withLock { state in
      state.slots[entry.identity]?.calls -= 1
      guard let slot = state.slots[entry.identity], slot.isClosed, slot.calls == 0 else {
        return false
      }
      state.slots[entry.identity] = nil
      return true
    }
    if isLast { release(entry) }
  }

  // MARK: Last close and readiness

  /// Releases all files whose last close has happened, and updates the readiness of queues. The
  /// releases of files that other processes opened may not have ended when this function returns,
  /// see ``FileReleases``.
  /// - Parameter process: returns the process for whose call this is done. `nil` for no call.
  func processPendingEvents(for process: () -> Int32? = { nil }) {
    let closed = drainEvents()
    if !closed.isEmpty {
      let process = process()
      for closer in closed where closer != process { releases.runElsewhere(of: closer) }
      if let process, closed.contains(process) { releases.run(of: process) }
    }
    releases.wait(for: process)
  }

  /// Handles the events that are there.
  /// - Returns: the processes for which `releases` must be run.
  private func drainEvents() -> [Int32] {
    processing.withLock { _ in
      while let descriptor = epoll.wait(timeout: 0) { processEvent(of: descriptor) }
      for identity in locks.removeUnlocked() {
        // The memfd is deleted later, when the server unmaps it. That event needs no handling.
        state.withLock { state in
          state.watches = state.watches.filter { $0.value != identity }
        }
        close(identity)
      }
      return closers.withLock { closers in
        defer { closers = [] }
        return closers
      }
    }
  }

  /// Updates the readiness of the queues that have changed.
  func deliverWakeups() {
    guard hasWakeups.load(ordering: .acquiring) else { return }
    delivering.withLock { _ in
      while let changed = removeWakeups() {
        for identity in changed {
          guard let entry = beginCall(on: identity) else { continue }
          entry.queue?.updateReadiness(entry.file)
          endCall(on: entry)
        }
      }
    }
  }

  /// Removes and returns all recorded wake-ups. `nil` when there are none.
  private func removeWakeups() -> Set<StandInIdentity>? {
    wakeups.withLock { wakeups in
      guard !wakeups.isEmpty else {
        hasWakeups.store(false, ordering: .releasing)
        return nil
      }
      defer { wakeups.removeAll() }
      return wakeups
    }
  }

  /// Starts a thread that handles each event, also while no program makes a call.
  /// - Returns: false when the host cannot create a thread.
  func startProcessingEvents() -> Bool {
    eventThreads.run { [self] in
      while true {
        guard epoll.wait() != nil else { continue }
        let closed = drainEvents()
        guard let first = closed.first else { continue }
        for closer in closed.dropFirst() { releases.runElsewhere(of: closer) }
        // A release may take long, so another thread waits for events meanwhile.
        if startProcessingEvents() { return releases.run(of: first) }
        releases.runElsewhere(of: first)
      }
    }
  }

  /// Waits at most 5 s for all releases.
  func awaitReleases() { releases.waitForAll() }

  private func processEvent(of descriptor: Int32) {
    if descriptor == inotify.rawValue {
      readDeletions()
    } else if descriptor == wakeEvent.rawValue {
      // The counter is reset here even when `hasWakeups` is false: the event may come after its
      // wake-up has been delivered.
      var count: UInt64 = 0
      Glibc.read(wakeEvent.rawValue, &count, 8)
      deliverWakeups()
    } else {
      epoll.remove(descriptor)
      close(state.withLock { $0.queues.removeValue(forKey: descriptor) })
    }
  }

  /// Closes the files whose stand-in memfds have been deleted.
  private func readDeletions() {
    withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 8) { buffer in
      let count = Glibc.read(inotify.rawValue, buffer.baseAddress, buffer.count)
      var offset = 0
      while offset + MemoryLayout<inotify_event>.size <= count {
        let event = buffer.loadUnaligned(fromByteOffset: offset, as: inotify_event.self)
        offset += MemoryLayout<inotify_event>.size + Int(event.len)
        // IN_DELETE_SELF comes before IN_IGNORED and removes the watch from the table.
        close(state.withLock { $0.watches.removeValue(forKey: event.wd) })
      }
    }
  }

  /// Adds the file to `releases`, or leaves the release to the last call on it.
  private func close(_ identity: StandInIdentity?) {
    guard let identity else { return }
    let entry: OpenFileEntry? = state.withLock { state in
      state.slots[identity]?.isClosed = true
      guard let slot = state.slots[identity], slot.calls == 0 else { return nil }
      state.slots[identity] = nil
      return slot.entry
    }
    guard let entry else { return }
    if releases.add({ [self] in release(entry) }, of: entry.opener) {
      closers.withLock { $0.append(entry.opener) }
    }
  }

  private func release(_ entry: OpenFileEntry) {
    entry.file.setReadinessObserver(nil)
    entry.releaseNumber(to: numbers)
    entry.file.release()
    state.withLock { $0.released += 1 }
  }

  private func recordWakeup(of identity: StandInIdentity) {
    wakeups.withLock { wakeups in
      wakeups.insert(identity)
      hasWakeups.store(true, ordering: .releasing)
    }
    var one: UInt64 = 1
    Glibc.write(wakeEvent.rawValue, &one, 8)
  }
}
