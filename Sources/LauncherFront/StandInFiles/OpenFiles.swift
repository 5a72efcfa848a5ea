// The open files of all programs, by carrier.
//
// A program's close() is not trapped. The kernel tells of the last one: inotify of a memfd's
// deletion, hang-up of a socket pair. Both happen before that close() returns, or before the parent of
// a killed process can wait for it, so whoever looks first (`settle()`) sees every close that came
// before the call it is about to answer. That keeps the order a kernel's synchronous release has.

internal import CLinux
internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// An open file that programs hold.
final class OpenEntry: Sendable {
  let identity: StandInIdentity
  let file: any OpenFile
  /// The node it was opened from; nil for a queue and for a virtual file.
  let node: DeviceNode?
  let queue: QueueStandIn?
  /// Of a virtual file: where read(2) and write(2) are.
  let position: FilePosition?

  init(
    identity: StandInIdentity, file: any OpenFile, node: DeviceNode?, queue: QueueStandIn?
  ) {
    position = node == nil && queue == nil ? FilePosition() : nil
    self.identity = identity
    self.file = file
    self.node = node
    self.queue = queue
  }
}

/// Where read(2) and write(2) of an open file are.
final class FilePosition: Sendable {
  let offset = Mutex<UInt64>(0)
}

final class OpenFiles: Sendable {
  private struct Slot {
    let entry: OpenEntry
    /// Calls that are being answered; the release waits for them.
    var calls = 0
    var isClosed = false
  }

  private struct State {
    var slots: [StandInIdentity: Slot] = [:]
    /// inotify watch descriptors of memfds.
    var watches: [Int32: StandInIdentity] = [:]
    /// Our ends of queues, by descriptor number.
    var queues: [Int32: StandInIdentity] = [:]
    var opened = 0
    var released = 0

    mutating func insert(_ slot: Slot) {
      slots[slot.entry.identity] = slot
      opened += 1
    }
  }

  private let state = Mutex(State())
  /// Queues that may have become ready since somebody looked.
  private let wakeups = Mutex<Set<StandInIdentity>>([])
  /// Some of them have not been shown yet.
  private let hasWakeups = Atomic(false)
  /// Held while they are shown, so that who comes second waits for the first.
  private let delivering = Mutex(())
  /// Held while closes are turned into releases, so that who comes second waits for the first.
  private let settling = Mutex(())

  private let claims = StandInLocks()
  private let inotify: OwnedDescriptor
  private let epoll: EpollSet
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

  /// How many open files there are, and how many there have ever been.
  var counts: (open: Int, opened: Int) {
    state.withLock { ($0.opened - $0.released, $0.opened) }
  }

  // MARK: Opening

  /// Takes charge of `file`, just opened from `node`.
  /// - Returns: the carrier to give to the program. When the last copy of it is closed, this one
  ///   included, `file` is released.
  func adopt(_ file: any OpenFile, of node: DeviceNode) throws(Errno) -> OwnedDescriptor {
    try adopt(file, path: node.paths[0], node: node)
  }

  /// Takes charge of a virtual file.
  func adopt(_ file: any OpenFile, path: String) throws(Errno) -> OwnedDescriptor {
    try adopt(file, path: path, node: nil)
  }

  private func adopt(
    _ file: any OpenFile, path: String, node: DeviceNode?
  ) throws(Errno) -> OwnedDescriptor {
    do {
      let carrier = try StandInFile.make(for: path, hasRegions: file.hasRegions)
      let identity = try StandInIdentity(of: carrier)
      let entry = OpenEntry(identity: identity, file: file, node: node, queue: nil)
      let link = "/proc/self/fd/\(carrier.rawValue)"
      try state.withLock { state throws(Errno) in
        let watch = inotify_add_watch(inotify.rawValue, link, UInt32(IN_DELETE_SELF))
        guard watch >= 0 else { throw errno == ENOSPC ? .noMemory : Errno(rawValue: errno) }
        state.watches[watch] = identity
        state.insert(Slot(entry: entry))
      }
      return carrier
    } catch {
      file.release()
      throw error
    }
  }

  /// Takes charge of a queue that a device made.
  /// - Returns: also the carrier to give to the program.
  func adopt(queue file: any OpenFile) throws(Errno) -> (OpenEntry, OwnedDescriptor) {
    let (queue, theirs) = try QueueStandIn.make(file.readiness())
    let identity = queue.identity
    let entry = OpenEntry(identity: identity, file: file, node: nil, queue: queue)
    state.withLock { state in
      state.queues[queue.descriptor.rawValue] = identity
      state.insert(Slot(entry: entry))
    }
    do {
      try watch(queue.descriptor, for: EPOLLHUP.rawValue)
    } catch {
      disown(entry)
      throw error
    }
    file.setReadinessObserver { [weak self] in self?.noteWakeup(of: identity) }
    queue.wake(file)
    return (entry, theirs)
  }

  /// Undoes ``adopt(queue:)`` for a queue that no program got. Its maker destroys it.
  func disown(_ entry: OpenEntry) {
    entry.file.setReadinessObserver(nil)
    state.withLock { state in
      if let queue = entry.queue {
        epoll.remove(queue.descriptor.rawValue)
        state.queues[queue.descriptor.rawValue] = nil
      }
      if state.slots.removeValue(forKey: entry.identity) != nil { state.opened -= 1 }
    }
  }

  /// The server maps some of the carrier of `entry` through `own`.
  func share(_ entry: OpenEntry, through own: OwnedDescriptor) throws(Errno) {
    try claims.add(entry.identity, own) { [weak self] in self?.settle() }
  }

  // MARK: Calls

  /// The open file behind a program's descriptor; nil when it is none of ours. To be paired with
  /// ``end(_:)``.
  func begin(_ descriptor: Int32, of task: HostTask) throws(Errno) -> OpenEntry? {
    begin(try StandInIdentity(of: descriptor, in: task))
  }

  /// To be paired with ``end(_:)``.
  func begin(_ identity: StandInIdentity) -> OpenEntry? {
    state.withLock { state in
      guard state.slots[identity]?.isClosed == false else { return nil }
      state.slots[identity]?.calls += 1
      return state.slots[identity]?.entry
    }
  }

  /// Whether the file is the carrier of an open device.
  func isCarrier(_ file: StandInIdentity) -> Bool {
    state.withLock { $0.slots[file].map { $0.entry.queue == nil } ?? false }
  }

  func end(_ entry: OpenEntry) {
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

  /// Releases every file whose last close has happened, and shows programs what queues hold now.
  func settle() {
    settling.withLock { _ in
      while let descriptor = epoll.wait(timeout: 0) { settle(descriptor: descriptor) }
      for identity in claims.takeReleased() {
        // Its deletion, when the mapping goes, is no news.
        state.withLock { state in
          state.watches = state.watches.filter { $0.value != identity }
        }
        close(identity)
      }
    }
  }

  /// Shows programs what queues hold now, when anything changed.
  func deliverWakeups() {
    guard hasWakeups.load(ordering: .acquiring) else { return }
    delivering.withLock { _ in
      while let changed = takeWakeups() {
        for identity in changed {
          guard let entry = begin(identity) else { continue }
          entry.queue?.wake(entry.file)
          end(entry)
        }
      }
    }
  }

  /// Nil when there are none left.
  private func takeWakeups() -> Set<StandInIdentity>? {
    wakeups.withLock { wakeups in
      guard !wakeups.isEmpty else {
        hasWakeups.store(false, ordering: .releasing)
        return nil
      }
      defer { wakeups.removeAll() }
      return wakeups
    }
  }

  /// The body of a thread that does what ``settle()`` does while nobody calls.
  func watchForever() {
    while true {
      if epoll.wait() != nil { settle() }
    }
  }

  private func settle(descriptor: Int32) {
    if descriptor == inotify.rawValue {
      settleInotify()
    } else if descriptor == wakeEvent.rawValue {
      // Read here and whatever hasWakeups says: the event may come after its wake-up was delivered.
      var count: UInt64 = 0
      Glibc.read(wakeEvent.rawValue, &count, 8)
      deliverWakeups()
    } else {
      epoll.remove(descriptor)
      close(state.withLock { $0.queues.removeValue(forKey: descriptor) })
    }
  }

  private func settleInotify() {
    withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 8) { buffer in
      let count = Glibc.read(inotify.rawValue, buffer.baseAddress, buffer.count)
      var offset = 0
      while offset + MemoryLayout<inotify_event>.size <= count {
        let event = buffer.loadUnaligned(fromByteOffset: offset, as: inotify_event.self)
        offset += MemoryLayout<inotify_event>.size + Int(event.len)
        // IN_DELETE_SELF and then IN_IGNORED: the first takes the watch from the table.
        close(state.withLock { $0.watches.removeValue(forKey: event.wd) })
      }
    }
  }

  private func close(_ identity: StandInIdentity?) {
    guard let identity else { return }
    let entry: OpenEntry? = state.withLock { state in
      state.slots[identity]?.isClosed = true
      guard let slot = state.slots[identity], slot.calls == 0 else { return nil }
      state.slots[identity] = nil
      return slot.entry
    }
    if let entry { release(entry) }
  }

  private func release(_ entry: OpenEntry) {
    entry.file.setReadinessObserver(nil)
    entry.file.release()
    state.withLock { $0.released += 1 }
  }

  private func noteWakeup(of identity: StandInIdentity) {
    wakeups.withLock { wakeups in
      wakeups.insert(identity)
      hasWakeups.store(true, ordering: .releasing)
    }
    var one: UInt64 = 1
    Glibc.write(wakeEvent.rawValue, &one, 8)
  }
}
