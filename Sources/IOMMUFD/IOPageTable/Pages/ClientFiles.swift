// SPDX-License-Identifier: Apache-2.0

// The files behind shared memory of clients.
//
// A page of a shared mapping belongs to its file, and stays when the client unmaps it or exits. So
// such pages are pinned as pages of the file, through a descriptor of this server. The server opens
// the file through the mapping (/proc/<pid>/map_files, which requires privilege on the host) or
// through a descriptor that the client has of the same file. Where neither works, the pages are
// used in place like private memory. A descriptor is kept while something is pinned through it and
// is found by the file's identity, which no other file can get meanwhile.
//
// All contexts share the object; its lock is a leaf.

package import Host
internal import Synchronization

package final class ClientFiles: Sendable {
  private struct Entry {
    weak var descriptor: OwnedDescriptor?
    let isWritable: Bool
    let isMemory: Bool
  }

  private struct State {
    var open: [FileIdentity: Entry] = [:]
    var refused: Set<FileIdentity> = []
    /// The number of entries at which those without descriptor are removed.
    var sweepAt = 64
  }

  private let state = Mutex(State())

  package init() {}

  // MARK: Files that cannot be pinned

  /// Refuses pins of mappings of `file` from now on. On a real host mappings of device registers
  /// cannot be pinned either (VM_IO).
  package func refuse(_ file: FileIdentity) {
    state.withLock { _ = $0.refused.insert(file) }
  }

  /// Undoes ``refuse(_:)``.
  package func permit(_ file: FileIdentity) {
    state.withLock { _ = $0.refused.remove(file) }
  }

  func isRefused(_ file: FileIdentity) -> Bool {
    state.withLock { $0.refused.contains(file) }
  }

  // MARK: Opening

  enum Backing {
    /// A file whose pages are its storage (memfd, tmpfs, hugetlbfs), and a descriptor of it.
    case sharedMemory(OwnedDescriptor)
    /// Shared pages of a file that a file system writes back.
    case writtenBack
    /// Private pages, and shared memory that cannot be opened or that is sealed against new
    /// writable mappings.
    case inPlace
  }

  func backing(
    of area: VirtualMemoryArea, in space: AddressSpace, forWriting: Bool
  ) -> Backing {
    guard area.access.contains(.shared), let file = area.file else { return .inPlace }
    if let (known, isMemory) = known(file, forWriting: forWriting) {
      guard isMemory else { return unopenedBacking(file, of: space) }
      return forWriting && known.isSealedAgainstWriting ? .inPlace : .sharedMemory(known)
    }
    guard let opened = MappedFile.open(area, file, of: space), opened.isMemory else {
      return unopenedBacking(file, of: space)
    }
    guard !forWriting || opened.isWritable && !opened.descriptor.isSealedAgainstWriting else {
      return .inPlace
    }
    add(opened.descriptor, of: file, isWritable: opened.isWritable, isMemory: true)
    return .sharedMemory(opened.descriptor)
  }

  private func unopenedBacking(_ file: FileIdentity, of space: AddressSpace) -> Backing {
    file.isWrittenBack(seenBy: space.processID) ? .writtenBack : .inPlace
  }

  /// Returns the descriptor that is already kept for the file of `descriptor`, otherwise keeps
  /// `descriptor`. So a file has one descriptor here, however often it is mapped.
  func share(_ descriptor: OwnedDescriptor) -> OwnedDescriptor {
    guard let status = try? FileStatus(of: descriptor) else { return descriptor }
    let (file, isWritable) = (status.identity, descriptor.isWritable)
    if let (known, _) = known(file, forWriting: isWritable) { return known }
    add(descriptor, of: file, isWritable: isWritable, isMemory: status.isMemory)
    return descriptor
  }

  private func known(
    _ file: FileIdentity, forWriting: Bool
  ) -> (descriptor: OwnedDescriptor, isMemory: Bool)? {
    state.withLock { state in
      guard let entry = state.open[file], entry.isWritable || !forWriting,
        let descriptor = entry.descriptor
      else { return nil }
      return (descriptor, entry.isMemory)
    }
  }

  private func add(
    _ descriptor: OwnedDescriptor, of file: FileIdentity, isWritable: Bool, isMemory: Bool
  ) {
    state.withLock { state in
      if state.open.count >= state.sweepAt {
        state.open = state.open.filter { $0.value.descriptor != nil }
        state.sweepAt = max(64, 2 * state.open.count)
      }
      state.open[file] = Entry(
        descriptor: descriptor, isWritable: isWritable, isMemory: isMemory)
    }
  }
}
