// SPDX-License-Identifier: Apache-2.0

// Retains the memory of processes for a moment after their end, so that what devices still use of
// that memory can be read one last time.
//
// On exit the kernel frees the memory of a process before it closes the process's files, and there
// is no event in between. But the kernel keeps an mm while a system call works on it. So for each
// address space one thread makes a read(2) of /proc/<pid>/mem that does not return, because its
// destination is a page that userfaultfd(2) leaves missing. When the process has ended (its pidfd
// becomes readable) or has executed another program (checked once a second), `onExit` copies what
// is needed. Then the page is filled, the read returns, and the kernel frees the memory.
//
// The process is not affected: its parent is notified of the exit at once, and its descriptors are
// closed. When this server is killed, its pending reads end. Where the host does not permit
// userfaultfd for this purpose, and for more than `limit` address spaces, the memory goes with its
// process.

internal import CLinux
internal import Glibc
internal import Synchronization
internal import SystemPackage

package final class AddressSpaceRetainer: Sendable {
  private struct Entry {
    weak var space: AddressSpace?
    var process: ClientProcess
    let slot: Int
  }

  private struct State {
    var entries: [Entry] = []
    var freeSlots: [Int]
    var isWatching = false
  }

  private static let stackSize = 256 << 10

  private let slots: MissingPages
  private let onExit: @Sendable (AddressSpace) -> Void
  private let state: Mutex<State>
  /// An eventfd that wakes the watching thread when there are more processes to watch.
  private let changed: OwnedDescriptor
  /// An eventfd that wakes `startRead` when a read has ended, be it the one started or another.
  private let readEnded: OwnedDescriptor
  /// Held while a read is started, so that the next page fault is the fault of that read.
  private let starting = Mutex<Void>(())

  /// - Parameters:
  ///   - limit: the number of address spaces retained at the same time.
  ///   - onExit: called on a thread of the retainer with an address space that its process has
  ///     left. The memory can be read until `onExit` returns.
  /// - Returns: `nil` where the host does not permit userfaultfd(2) for faults in the kernel.
  package init?(limit: Int = 64, onExit: @escaping @Sendable (AddressSpace) -> Void) {
    guard let slots = MissingPages(count: limit) else { return nil }
    let flags = Int32(EFD_CLOEXEC | EFD_NONBLOCK)
    let (changed, readEnded) = (eventfd(0, flags), eventfd(0, flags))
    guard changed >= 0, readEnded >= 0 else { return nil }
    self.slots = slots
    self.changed = OwnedDescriptor(owning: changed)
    self.readEnded = OwnedDescriptor(owning: readEnded)
    self.onExit = onExit
    state = Mutex(State(freeSlots: Array((0..<limit).reversed())))
  }

  /// Retains `space` until its processes have left it and `onExit` has returned, or until no
  /// reference to `space` is left.
  /// - Parameter process: a process that has `space`.
  func retain(_ space: AddressSpace, of process: ClientProcess) {
    guard let slot = state.withLock({ $0.freeSlots.popLast() }),
      startRead(of: space, at: process.identity.address, into: slot)
    else { return }
    let mustStart = state.withLock { state in
      state.entries.append(Entry(space: space, process: process, slot: slot))
      defer { state.isWatching = true }
      return !state.isWatching
    }
    if !mustStart {
      eventfd_write(changed.rawValue, 1)
    } else if !startThread(named: "process-exits", stackSize: Self.stackSize, { self.watch() }) {
      // The next call tries again.
      state.withLock { $0.isWatching = false }
    }
  }

  /// Starts a read that does not return, and waits until the kernel executes it. The slot becomes
  /// free when the read returns. The read uses a descriptor of its own, because `space` may be
  /// released before.
  /// - Returns: false when the read has returned already: the process has ended, or has unmapped
  ///   the page at `address`.
  private func startRead(of space: AddressSpace, at address: UInt64, into slot: Int) -> Bool {
    let copy = fcntl(space.memory.rawValue, F_DUPFD_CLOEXEC, 0)
    guard copy >= 0 else {
      free(slot)
      return false
    }
    let memory = OwnedDescriptor(owning: copy)
    let read = PendingRead()
    return starting.withLock { _ in
      slots.remove(slot)
      let isStarted = startThread(named: "mm-retainer", stackSize: Self.stackSize) { [self] in
        slots.read(memory, at: address, into: slot)
        read.hasEnded.store(true, ordering: .releasing)
        eventfd_write(readEnded.rawValue, 1)
        free(slot)
      }
      guard isStarted else {
        free(slot)
        return false
      }
      return slots.waitForFault(or: readEnded) { read.hasEnded.load(ordering: .acquiring) }
    }
  }

  private final class PendingRead: Sendable {
    let hasEnded = Atomic(false)
  }

  private func free(_ slot: Int) {
    state.withLock { $0.freeSlots.append(slot) }
  }

  /// The number of address spaces that are retained, for tests.
  var count: Int { state.withLock { $0.entries.count } }

  // MARK: The watching thread

  private func watch() {
    while true {
      let entries = state.withLock { $0.entries }
      let ended = waitForExit(of: entries)
      var released: Set<Int> = []
      for (index, entry) in entries.enumerated()
      where ended.contains(index) || isObsolete(entry) {
        if let other = entry.space?.processes.another(than: entry.process.id) {
          watch(other, inPlaceOf: entry)
          continue
        }
        if let space = entry.space { onExit(space) }
        released.insert(entry.slot)
      }
      guard !released.isEmpty else { continue }
      state.withLock { $0.entries.removeAll { released.contains($0.slot) } }
      for slot in released { slots.fill(slot) }
    }
  }

  /// Continues with a process that has the same address space.
  private func watch(_ other: ClientProcess, inPlaceOf entry: Entry) {
    state.withLock { state in
      guard let index = state.entries.firstIndex(where: { $0.slot == entry.slot }) else { return }
      state.entries[index].process = other
    }
  }

  /// Waits until a process ends or `changed` is signalled, for at most a second while there are
  /// entries.
  /// - Returns: the indices of the processes that have ended.
  private func waitForExit(of entries: [Entry]) -> Set<Int> {
    var requests = entries.map {
      pollfd(fd: $0.process.pidfd.rawValue, events: Int16(POLLIN), revents: 0)
    }
    requests.append(pollfd(fd: changed.rawValue, events: Int16(POLLIN), revents: 0))
    guard poll(&requests, nfds_t(requests.count), entries.isEmpty ? -1 : 1_000) > 0 else {
      return []
    }
    var count: eventfd_t = 0
    eventfd_read(changed.rawValue, &count)
    return Set(entries.indices.filter { requests[$0].revents != 0 })
  }

  /// Whether the process, which has not ended, has executed another program, or no reference to the
  /// address space is left.
  private func isObsolete(_ entry: Entry) -> Bool {
    entry.space == nil || !entry.process.identity.matches(HostTask(id: entry.process.id))
  }
}

/// Pages of this process that userfaultfd(2) handles: an access to a missing page waits until the
/// page is filled. A page is addressed by its index, the slot.
private final class MissingPages: Sendable {
  private let base: UInt
  private let count: Int
  /// The userfaultfd.
  private let faults: OwnedDescriptor
  private static let pageSize = 4096

  init?(count: Int) {
    let area = mmap(
      nil, count * Self.pageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let area, area != MAP_FAILED else { return nil }
    let faults = CLinux_userfaultfd_register(area, count * Self.pageSize)
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

  /// Makes the page missing.
  func remove(_ slot: Int) {
    madvise(page(slot), Self.pageSize, MADV_DONTNEED)
  }

  /// Fills the page with zeros. Accesses that wait for the page go on.
  func fill(_ slot: Int) {
    guard let page = page(slot) else { return }
    CLinux_userfaultfd_zeropage(faults.rawValue, page, Self.pageSize)
  }

  /// Waits for an access to a missing page.
  /// - Returns: false when `hasEnded` becomes true instead. `event` is signalled when that may have
  ///   happened.
  func waitForFault(or event: OwnedDescriptor, _ hasEnded: () -> Bool) -> Bool {
    while true {
      var requests = [faults, event].map {
        pollfd(fd: $0.rawValue, events: Int16(POLLIN), revents: 0)
      }
      poll(&requests, nfds_t(requests.count), -1)
      if CLinux_userfaultfd_read(faults.rawValue) == 0 { return true }
      var count: eventfd_t = 0
      eventfd_read(event.rawValue, &count)
      if hasEnded() { return false }
    }
  }

  /// Reads a byte at `address` of `memory`, an open /proc/<pid>/mem, into the page. Returns when
  /// the page is filled. Meanwhile the kernel keeps the mm.
  func read(_ memory: OwnedDescriptor, at address: UInt64, into slot: Int) {
    pread(memory.rawValue, page(slot), 1, off_t(truncatingIfNeeded: address))
  }
}
