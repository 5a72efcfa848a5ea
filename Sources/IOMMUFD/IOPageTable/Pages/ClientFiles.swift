// The files behind shared memory of clients.
//
// A page of a shared mapping belongs to its file: it stays when the client unmaps it or ends. So such
// pages are pinned as pages of the file, through a descriptor of our own. It is opened by way of the
// mapping itself (/proc/<pid>/map_files, which needs privilege on the host) or of a descriptor that
// the client has of the same file; where neither works, the pages are used in place like private
// memory. A descriptor is kept as long as something is pinned through it and found again by the
// file's identity, which cannot pass to another file meanwhile.

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
    /// Look for dead entries when there are this many.
    var sweepAt = 64
  }

  private let state = Mutex(State())

  package init() {}

  // MARK: Files that are no memory

  /// From now on mappings of `file` cannot be pinned, as those of a device's registers cannot on a
  /// real host (VM_IO).
  package func refuse(_ file: FileIdentity) {
    state.withLock { _ = $0.refused.insert(file) }
  }

  package func permit(_ file: FileIdentity) {
    state.withLock { _ = $0.refused.remove(file) }
  }

  func isRefused(_ file: FileIdentity) -> Bool {
    state.withLock { $0.refused.contains(file) }
  }

  // MARK: Opening

  enum Backing {
    /// Pages of a file whose pages are its storage, and a descriptor of it.
    case sharedMemory(OwnedDescriptor)
    /// Shared pages of a file that a file system will write to its disk.
    case writtenBack
    /// Private pages, and shared memory that there is no way to open.
    case inPlace
  }

  func backing(
    of area: VirtualMemoryArea, in space: AddressSpace, forWriting: Bool
  ) -> Backing {
    guard area.access.contains(.shared), let file = area.file else { return .inPlace }
    if let (known, isMemory) = known(file, forWriting: forWriting) {
      return isMemory ? .sharedMemory(known) : .writtenBack
    }
    guard let opened = MappedFile.open(area, file, of: space) else {
      return file.isOnBlockDevice ? .writtenBack : .inPlace
    }
    guard opened.isMemory else { return .writtenBack }
    guard opened.isWritable || !forWriting else { return .inPlace }
    remember(opened.descriptor, as: file, isWritable: opened.isWritable, isMemory: true)
    return .sharedMemory(opened.descriptor)
  }

  /// A descriptor of the file that `descriptor` is of: one that is open already, so that a file has
  /// one here however often it is mapped, or this one.
  func share(_ descriptor: OwnedDescriptor) -> OwnedDescriptor {
    guard let status = try? FileStatus(of: descriptor) else { return descriptor }
    let (file, isWritable) = (status.identity, descriptor.isWritable)
    if let (known, _) = known(file, forWriting: isWritable) { return known }
    remember(descriptor, as: file, isWritable: isWritable, isMemory: status.isMemory)
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

  private func remember(
    _ descriptor: OwnedDescriptor, as file: FileIdentity, isWritable: Bool, isMemory: Bool
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
