// SPDX-License-Identifier: Apache-2.0

// One `AddressSpace` object per mm, so that pages that two calls from one mm pin are known to be
// the same pages.
//
// Entries are found by process ID, which does not identify an mm: the kernel reuses IDs, exec keeps
// the ID, and children of clone(CLONE_VM) have the mm of their parent. An entry is valid only while
// (1) its pidfd shows that the process it was made for has not ended, and (2) the process still has
// the random bytes that the kernel put on the stack at exec (`ExecIdentity`). A process that has
// overwritten or unmapped these bytes gets a new object for each call. A process without an entry
// gets the object of a process with the same bytes whose mm is the same (kcmp(2)).
//
// A child may end before its parent makes a call. So the entries of a parent with the same mm are
// made with those of its child.
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
    let process: ClientProcess
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
  /// The number of generations of parents that are searched.
  private static let parentLimit = 8

  private let state = Mutex(State())
  /// Held while a process gets its entry, so that processes with one mm get one object.
  private let adding = Mutex<Void>(())
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
    guard let pidfd = try? OwnedDescriptor(checking: CLinux_pidfd_open(processID, false)),
      let identity = ExecIdentity(of: task)
    else { return try AddressSpace(of: task) }
    let process = ClientProcess(id: processID, pidfd: pidfd, identity: identity)
    let (space, isNew) = try adding.withLock { _ throws(Errno) in
      try addSpace(of: process, task)
    }
    try task.checkBlocked()
    if isNew { retainer?.retain(space, of: process) }
    return space
  }

  /// Returns the address space that the last call of process `id` was for. The process may have
  /// executed another program since.
  package func lastSpace(ofProcess id: Int32) -> AddressSpace? {
    state.withLock { $0.entries[id]?.space }
  }

  /// What identifies the exec that `space` was found for. `nil` when the entry is gone.
  package func execIdentity(of space: AddressSpace) -> ExecIdentity? {
    state.withLock { state in
      guard let entry = state.entries[space.processID], entry.space === space else { return nil }
      return entry.process.identity
    }
  }

  package var isEmpty: Bool { state.withLock { $0.entries.isEmpty } }

  /// The number of entries, for tests.
  var count: Int { state.withLock { $0.entries.count } }

  // MARK: Known processes

  private func validSpace(ofProcess processID: Int32, for task: HostTask) -> AddressSpace? {
    guard let (space, process) = known(processID), !process.hasEnded,
      // Not under the lock: a client can delay reads of its memory.
      process.identity.matches(task)
    else { return nil }
    state.withLock { Self.markRecent(space, in: &$0) }
    space.processes.markCaller(processID)
    return space
  }

  private func known(_ id: Int32) -> (space: AddressSpace, process: ClientProcess)? {
    state.withLock { state in
      guard let entry = state.entries[id], let space = entry.space else { return nil }
      return (space, entry.process)
    }
  }

  // MARK: New processes

  /// Makes the entry of `process`, with a new object if its mm has none. `adding` is held.
  private func addSpace(
    of process: ClientProcess, _ task: HostTask
  ) throws(Errno) -> (AddressSpace, isNew: Bool) {
    if let space = sharedSpace(of: process) {
      space.processes.add(process)
      insert(process, space)
      return (space, false)
    }
    let space = try AddressSpace(of: task, process: process.id, process)
    for parent in parents(sharingMemoryWith: process) {
      space.processes.add(parent)
      insert(parent, space)
    }
    space.processes.markCaller(process.id)
    insert(process, space)
    return (space, true)
  }

  /// Returns the object of the mm of `process`, found for another process, or by another thread of
  /// `process` meanwhile.
  private func sharedSpace(of process: ClientProcess) -> AddressSpace? {
    // Only processes of one exec can share an mm.
    let candidates = state.withLock { state in
      state.entries.values.compactMap { entry in
        entry.process.identity == process.identity
          ? entry.space.map { (space: $0, process: entry.process) } : nil
      }
    }
    return candidates.first { $0.process.sharesMemory(with: process.id) }?.space
  }

  /// Returns the parent of `process`, the parent's parent and so on, while they have the same mm.
  private func parents(sharingMemoryWith process: ClientProcess) -> [ClientProcess] {
    var parents: [ClientProcess] = []
    while parents.count < Self.parentLimit,
      let id = (parents.last ?? process).parent, CLinux_kcmp_vm(id, process.id) == 0,
      let pidfd = try? OwnedDescriptor(checking: CLinux_pidfd_open(id, false))
    {
      let parent = ClientProcess(id: id, pidfd: pidfd, identity: process.identity)
      // The parent may have ended between the two calls, and another process may have its ID.
      guard parent.sharesMemory(with: process.id) else { break }
      parents.append(parent)
    }
    return parents
  }

  private func insert(_ process: ClientProcess, _ space: AddressSpace) {
    state.withLock { state in
      if state.entries.count >= state.sweepThreshold {
        state.entries = state.entries.filter { $0.value.space != nil }
        state.sweepThreshold = max(Self.minimumSweepThreshold, 2 * state.entries.count)
      }
      guard state.entries.count < Self.entryLimit else { return }
      state.entries[process.id] = Entry(space: space, process: process)
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
}

extension ClientProcess {
  /// The ID of the parent. `nil` for a process whose parent is not in this process's PID namespace.
  fileprivate var parent: Int32? {
    guard let status = try? ProcFile.read("/proc/\(id)/status"),
      let text = ProcFile.field("PPid", of: status), let parent = Int32(text), parent > 0
    else { return nil }
    return parent
  }
}
