// One `AddressSpace` object per mm, so that pages pinned in two calls of one process are known to
// be the same pages.
//
// Entries are found by process id, which says nothing by itself: ids are recycled and exec keeps
// them. An entry is used only while (1) its pidfd says that the process it was made for has not
// ended, and (2) the 16 random bytes that the kernel put on the stack at exec (AT_RANDOM) are
// still there; exec changes them. A process that has overwritten or unmapped them just gets a new
// object each time.
//
// Entries are weak, so the registry keeps no memory file open, save for a few recent ones: a
// client that maps and unmaps without a pause would otherwise open it anew for every call.

internal import CLinux
internal import Glibc
internal import Synchronization
package import SystemPackage

package final class AddressSpaceRegistry: Sendable {
  private struct Entry {
    weak var space: AddressSpace?
    let process: OwnedDescriptor
    let stamp: ExecStamp
  }

  private struct State {
    var entries: [Int32: Entry] = [:]
    /// Most recent last.
    var recent: [AddressSpace] = []
    /// Look for dead entries when there are this many.
    var sweepAt = AddressSpaceRegistry.minimumSweep
  }

  private static let recentLimit = 16
  private static let entryLimit = 4096
  private static let minimumSweep = 64

  private let state = Mutex(State())
  private let keeper: AddressSpaceKeeper?

  /// - Parameter keeper: keeps the address spaces that are found for as long as they are of use.
  package init(keeper: AddressSpaceKeeper? = nil) {
    self.keeper = keeper
  }

  /// The address space of `task`, which is blocked in a call that is being served.
  /// - Throws: as `AddressSpace.init(of:)`.
  package func addressSpace(of task: HostTask) throws(Errno) -> AddressSpace {
    // An entry under the task's own id, whose process lives: the task is that process's first
    // thread, and nothing needs to be read to know it.
    if let space = known(task.id, as: task) { return space }
    let processID = try task.processID()
    if processID != task.id, let space = known(processID, as: task) { return space }

    let space = try AddressSpace(of: task)
    if let process = try? OwnedDescriptor(checking: CLinux_pidfd_open(processID, false)),
      let stamp = ExecStamp(of: task)
    {
      insert(Entry(space: space, process: process, stamp: stamp), space, for: processID)
      keeper?.keep(space, of: process, stamp: stamp)
    }
    return space
  }

  /// What a process that `space` was found for has in its memory as long as it is there.
  package func stamp(of space: AddressSpace) -> ExecStamp? {
    state.withLock { state in
      guard let entry = state.entries[space.processID], entry.space === space else { return nil }
      return entry.stamp
    }
  }

  /// Entries kept, for tests.
  var count: Int { state.withLock { $0.entries.count } }

  private func known(_ processID: Int32, as task: HostTask) -> AddressSpace? {
    state.withLock { state in
      guard let entry = state.entries[processID], let space = entry.space,
        !Self.hasEnded(entry.process), entry.stamp.isStill(in: task)
      else { return nil }
      Self.touch(space, in: &state)
      return space
    }
  }

  private func insert(_ entry: Entry, _ space: AddressSpace, for processID: Int32) {
    state.withLock { state in
      if state.entries.count >= state.sweepAt {
        state.entries = state.entries.filter { $0.value.space != nil }
        state.sweepAt = max(Self.minimumSweep, 2 * state.entries.count)
      }
      guard state.entries.count < Self.entryLimit else { return }
      state.entries[processID] = entry
      Self.touch(space, in: &state)
    }
  }

  private static func touch(_ space: AddressSpace, in state: inout State) {
    if state.recent.last === space { return }
    if let index = state.recent.firstIndex(where: { $0 === space }) {
      state.recent.remove(at: index)
    } else if state.recent.count == recentLimit {
      state.recent.removeFirst()
    }
    state.recent.append(space)
  }

  private static func hasEnded(_ process: OwnedDescriptor) -> Bool {
    var request = pollfd(fd: process.rawValue, events: Int16(POLLIN), revents: 0)
    return poll(&request, 1, 0) != 0
  }
}
