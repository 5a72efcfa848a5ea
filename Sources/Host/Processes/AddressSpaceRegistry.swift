// SPDX-License-Identifier: Apache-2.0

// One `AddressSpace` object per mm, so that pages that two calls of one process pin are known to be
// the same pages.
//
// Entries are found by process ID, which does not identify an mm: the kernel reuses IDs, and exec
// keeps the ID. An entry is valid only while (1) its pidfd shows that the process it was made for
// has not ended, and (2) the process still has the random bytes that the kernel put on the stack at
// exec (`ExecIdentity`). A process that has overwritten or unmapped these bytes gets a new object
// for each call.
//
// Entries are weak references, so the registry does not keep /proc/<pid>/mem open. Only the address
// spaces used most recently stay referenced. Otherwise the files of a client that maps and unmaps
// in a loop would be opened anew for every call.

internal import CLinux
internal import Glibc
internal import Synchronization
package import SystemPackage

package final class AddressSpaceRegistry: Sendable {
  private struct Entry {
    weak var space: AddressSpace?
    let process: OwnedDescriptor
    let identity: ExecIdentity
  }

  private struct State {
    /// By process ID.
    var entries: [Int32: Entry] = [:]
    /// Strong references, the most recently used last.
    var recent: [AddressSpace] = []
    /// The number of entries at which entries without an address space are removed.
    var sweepThreshold = AddressSpaceRegistry.minimumSweepThreshold
  }

  private static let recentLimit = 16
  private static let entryLimit = 4096
  private static let minimumSweepThreshold = 64

  private let state = Mutex(State())
  private let retainer: AddressSpaceRetainer?

  /// - Parameter retainer: retains each address space that ``addressSpace(of:)`` makes.
  package init(retainer: AddressSpaceRetainer? = nil) {
    self.retainer = retainer
  }

  /// The address space of `task`, which is blocked in a call that is being served.
  /// - Throws: as `AddressSpace.init(of:)`.
  package func addressSpace(of task: HostTask) throws(Errno) -> AddressSpace {
    // A valid entry under the thread's own ID belongs to a thread group leader, so in this common
    // case the process ID need not be looked up.
    if let space = validSpace(ofProcess: task.id, for: task) { return space }
    let processID = try task.processID()
    if processID != task.id, let space = validSpace(ofProcess: processID, for: task) {
      return space
    }

    let space = try AddressSpace(of: task)
    try task.checkBlocked()
    if let process = try? OwnedDescriptor(checking: CLinux_pidfd_open(processID, false)),
      let identity = ExecIdentity(of: task)
    {
      insert(Entry(space: space, process: process, identity: identity), space, for: processID)
      retainer?.retain(space, of: process, identity: identity)
    }
    return space
  }

  /// What identifies the exec that `space` was found for. `nil` when the entry is gone.
  package func execIdentity(of space: AddressSpace) -> ExecIdentity? {
    state.withLock { state in
      guard let entry = state.entries[space.processID], entry.space === space else { return nil }
      return entry.identity
    }
  }

  /// The number of entries, for tests.
  var count: Int { state.withLock { $0.entries.count } }

  private func validSpace(ofProcess processID: Int32, for task: HostTask) -> AddressSpace? {
    state.withLock { state in
      guard let entry = state.entries[processID], let space = entry.space,
        !Self.hasEnded(entry.process), entry.identity.matches(task)
      else { return nil }
      Self.markRecent(space, in: &state)
      return space
    }
  }

  private func insert(_ entry: Entry, _ space: AddressSpace, for processID: Int32) {
    state.withLock { state in
      if state.entries.count >= state.sweepThreshold {
        state.entries = state.entries.filter { $0.value.space != nil }
        state.sweepThreshold = max(Self.minimumSweepThreshold, 2 * state.entries.count)
      }
      guard state.entries.count < Self.entryLimit else { return }
      state.entries[processID] = entry
      Self.markRecent(space, in: &state)
    }
  }

  private static func markRecent(_ space: AddressSpace, in state: inout State) {
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
