// Address spaces that outlive their processes for a moment, so that what devices still use of them
// can be read one last time.
//
// The kernel frees a process's memory before it closes its files, and tells nobody in between. It
// does keep memory while a system call works on it, though. So for each address space one thread
// makes a read of /proc/<pid>/mem that does not end: into a page that userfaultfd(2) does not fill.
// When the process has ended (its pidfd says so) or executed another program (looked for once a
// second), `atEnd` copies what is needed, the page is filled and the memory goes.
//
// The process notices nothing: its parent is told of its end at once, its descriptors close. A kept
// read ends when this server is killed. Where the host allows no userfaultfd, and for more address
// spaces than `limit`, memory goes with its process.

internal import CLinux
internal import Glibc
internal import Synchronization
internal import SystemPackage

package final class AddressSpaceKeeper: Sendable {
  private struct Kept {
    weak var space: AddressSpace?
    let process: OwnedDescriptor
    let processID: Int32
    let stamp: ExecStamp
    let slot: Int
  }

  private struct State {
    var kept: [Kept] = []
    var freeSlots: [Int]
    var isWatching = false
  }

  private static let stackSize = 256 << 10

  private let slots: FaultingPages
  private let atEnd: @Sendable (AddressSpace) -> Void
  private let state: Mutex<State>
  /// Tells the watching thread that there is more to watch.
  private let changed: OwnedDescriptor
  /// Tells who starts a read that one, perhaps another, has ended.
  private let readEnded: OwnedDescriptor
  /// One read is started at a time, so that the next fault is its.
  private let starting = Mutex<Void>(())

  /// - Parameter atEnd: called with an address space whose process has left it, on a thread of the
  ///   keeper's. Afterwards the memory is gone.
  /// - Returns: nil where the host does not let a process keep another's memory.
  package init?(limit: Int = 64, atEnd: @escaping @Sendable (AddressSpace) -> Void) {
    guard let slots = FaultingPages(count: limit) else { return nil }
    let flags = Int32(EFD_CLOEXEC | EFD_NONBLOCK)
    let (changed, readEnded) = (eventfd(0, flags), eventfd(0, flags))
    guard changed >= 0, readEnded >= 0 else { return nil }
    self.slots = slots
    self.changed = OwnedDescriptor(owning: changed)
    self.readEnded = OwnedDescriptor(owning: readEnded)
    self.atEnd = atEnd
    state = Mutex(State(freeSlots: Array((0..<limit).reversed())))
  }

  /// Keeps `space` until its process leaves it or nothing uses it any more.
  func keep(_ space: AddressSpace, of process: OwnedDescriptor, stamp: ExecStamp) {
    guard let slot = state.withLock({ $0.freeSlots.popLast() }),
      startRead(of: space, at: stamp.address, into: slot)
    else { return }
    let mustStart = state.withLock { state in
      state.kept.append(
        Kept(
          space: space, process: process, processID: space.processID, stamp: stamp, slot: slot))
      defer { state.isWatching = true }
      return !state.isWatching
    }
    if !mustStart {
      eventfd_write(changed.rawValue, 1)
    } else if !startThread(named: "keeper", stackSize: Self.stackSize, { self.watch() }) {
      // The next one tries again.
      state.withLock { $0.isWatching = false }
    }
  }

  /// Starts a read that does not end, and returns once the kernel is in it. The slot is free again
  /// when the read ends. It has a descriptor of its own: the address space may go before it.
  /// - Returns: false when it has ended already: the process has, or hides its stack.
  private func startRead(of space: AddressSpace, at address: UInt64, into slot: Int) -> Bool {
    let copy = fcntl(space.memory.rawValue, F_DUPFD_CLOEXEC, 0)
    guard copy >= 0 else {
      free(slot)
      return false
    }
    let memory = OwnedDescriptor(owning: copy)
    let read = Read()
    return starting.withLock { _ in
      slots.empty(slot)
      let isStarted = startThread(named: "keeper", stackSize: Self.stackSize) { [self] in
        slots.read(memory, at: address, into: slot)
        read.hasEnded.store(true, ordering: .releasing)
        eventfd_write(readEnded.rawValue, 1)
        free(slot)
      }
      guard isStarted else {
        free(slot)
        return false
      }
      return slots.awaitFault(or: readEnded) { read.hasEnded.load(ordering: .acquiring) }
    }
  }

  private final class Read: Sendable {
    let hasEnded = Atomic(false)
  }

  private func free(_ slot: Int) {
    state.withLock { $0.freeSlots.append(slot) }
  }

  /// Address spaces that are kept, for tests.
  var count: Int { state.withLock { $0.kept.count } }

  // MARK: The watching thread

  private func watch() {
    while true {
      let kept = state.withLock { $0.kept }
      let ended = awaitEnd(of: kept)
      var left: Set<Int> = []
      for (index, entry) in kept.enumerated() where ended.contains(index) || hasLeft(entry) {
        if let space = entry.space { atEnd(space) }
        left.insert(entry.slot)
      }
      guard !left.isEmpty else { continue }
      state.withLock { $0.kept.removeAll { left.contains($0.slot) } }
      for slot in left { slots.fill(slot) }
    }
  }

  /// Waits for the end of a process, for up to a second while there are any.
  /// - Returns: the indices of those that have ended.
  private func awaitEnd(of kept: [Kept]) -> Set<Int> {
    var requests = kept.map { pollfd(fd: $0.process.rawValue, events: Int16(POLLIN), revents: 0) }
    requests.append(pollfd(fd: changed.rawValue, events: Int16(POLLIN), revents: 0))
    guard poll(&requests, nfds_t(requests.count), kept.isEmpty ? -1 : 1_000) > 0 else { return [] }
    var count: eventfd_t = 0
    eventfd_read(changed.rawValue, &count)
    return Set(kept.indices.filter { requests[$0].revents != 0 })
  }

  /// The process, which has not ended, executed another program; or nobody wants its memory.
  private func hasLeft(_ entry: Kept) -> Bool {
    entry.space == nil || !entry.stamp.isStill(in: HostTask(id: entry.processID))
  }
}

/// Pages that make whoever touches them wait.
private final class FaultingPages: Sendable {
  private let base: UInt
  private let count: Int
  private let faults: OwnedDescriptor
  private static let pageSize = 4096

  init?(count: Int) {
    let area = mmap(
      nil, count * Self.pageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let area, area != MAP_FAILED else { return nil }
    let faults = CLinux_userfault_open(area, count * Self.pageSize)
    guard faults >= 0 else {
      munmap(area, count * Self.pageSize)
      return nil
    }
    base = UInt(bitPattern: area)
    self.count = count
    self.faults = OwnedDescriptor(owning: faults)
  }

  deinit {
    munmap(UnsafeMutableRawPointer(bitPattern: base), count * Self.pageSize)
  }

  private func page(_ slot: Int) -> UnsafeMutableRawPointer? {
    UnsafeMutableRawPointer(bitPattern: base + UInt(slot * Self.pageSize))
  }

  /// Whoever touches the page from now on waits.
  func empty(_ slot: Int) {
    madvise(page(slot), Self.pageSize, MADV_DONTNEED)
  }

  /// Nobody waits any more.
  func fill(_ slot: Int) {
    guard let page = page(slot) else { return }
    CLinux_userfault_fill(faults.rawValue, page, Self.pageSize)
  }

  /// Waits until somebody touches an empty page.
  /// - Returns: false when `hasEnded` becomes true instead, which `event` tells of.
  func awaitFault(or event: OwnedDescriptor, _ hasEnded: () -> Bool) -> Bool {
    while true {
      var requests = [faults, event].map {
        pollfd(fd: $0.rawValue, events: Int16(POLLIN), revents: 0)
      }
      poll(&requests, nfds_t(requests.count), -1)
      if CLinux_userfault_take(faults.rawValue) == 0 { return true }
      var count: eventfd_t = 0
      eventfd_read(event.rawValue, &count)
      if hasEnded() { return false }
    }
  }

  /// Reads a byte, which ends when the page is filled. Meanwhile the kernel keeps what is read.
  func read(_ memory: OwnedDescriptor, at address: UInt64, into slot: Int) {
    pread(memory.rawValue, page(slot), 1, off_t(truncatingIfNeeded: address))
  }
}
