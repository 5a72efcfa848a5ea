// SPDX-License-Identifier: Apache-2.0

// The files that programs see besides the host's, as one tree from the root directory on. Names are
// looked up in it while a path is walked (PathWalk).
//
// The tree is laid over the host's directories by their identity, not by the text of a path: a
// directory of the host that is the one that an entry's path leads to in this process also has the
// entry's children, however a program reaches it. So a program that has changed its root directory
// or its mount namespace sees the nodes where it sees the host's /dev, and nowhere else.

internal import CLinux
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage

final class VirtualTree: Sendable {
  /// What a file of the host stands for.
  enum Meaning {
    /// The directory of the host that an entry's path leads to.
    case directory(VirtualEntry)
    case placeHolder(VirtualEntry)
  }

  private struct State {
    var meanings: [FileIdentity: Meaning] = [:]
    /// The identities of the host's directories, by path.
    var directories: [String: FileIdentity] = [:]
    /// By st_rdev.
    var nodes: [UInt64: VirtualEntry] = [:]
    /// The hash values of the names of all entries.
    var names: Set<UInt64> = []
    /// Those of nodes, and of directories that the host does not have. The kernel does not know
    /// what a path through them means.
    var innerNames: Set<UInt64> = []
    var lastInode: UInt64 = 1 << 20
  }

  let root: VirtualEntry
  private let state = Mutex(State())

  init(_ nodes: [DeviceNode]) {
    root = VirtualEntry(path: "/", kind: .directory, inode: 1, parent: nil)
    state.withLock { noteHostDirectory(of: root, &$0) }
    for node in nodes {
      for path in node.paths { insert(.node(node), at: path) }
    }
  }

  /// Inserts an entry, and the directories above it that do not exist.
  func insert(_ kind: VirtualEntry.Kind, at path: String) {
    let names = path.split(separator: "/").map(String.init)
    var directory = root
    for name in names.dropLast() {
      directory = directory.child(name) ?? add(.directory, named: name, in: directory)
    }
    if let last = names.last { _ = add(kind, named: last, in: directory) }
  }

  private func add(
    _ kind: VirtualEntry.Kind, named name: String, in directory: VirtualEntry
  ) -> VirtualEntry {
    let path = directory === root ? "/" + name : directory.path + "/" + name
    let entry = state.withLock { state in
      state.lastInode += 1
      state.names.insert(PathName.hash(name.utf8))
      let entry = VirtualEntry(
        path: path, kind: kind, inode: state.lastInode, parent: directory)
      if let node = entry.node {
        let number = DeviceNumber(major: node.major, minor: node.minor).encoded
        // The first path of a node is its canonical one.
        if state.nodes[number] == nil { state.nodes[number] = entry }
      } else {
        noteHostDirectory(of: entry, &state)
      }
      // Below such a directory a path has its name anyway.
      if state.directories[path] == nil, state.directories[directory.path] != nil {
        state.innerNames.insert(PathName.hash(name.utf8))
      }
      return entry
    }
    directory.insert(entry)
    return entry
  }

  // MARK: Looking up

  /// Whether the last name of `path` is that of an entry, or the path leads through one that the
  /// host does not have.
  func mayLead(_ path: UnsafeRawBufferPointer) -> Bool {
    state.withLock { state in
      PathName.contains(in: path) { hash, isLast in
        isLast ? state.names.contains(hash) : state.innerNames.contains(hash)
      }
    }
  }

  /// Makes paths with this last name candidates, see ``PathCandidate``.
  func addName(_ name: String) {
    _ = state.withLock { $0.names.insert(PathName.hash(name.utf8)) }
  }

  func meaning(of file: FileIdentity) -> Meaning? { state.withLock { $0.meanings[file] } }

  /// The node with device number `number` (st_rdev).
  func node(number: UInt64) -> VirtualEntry? { state.withLock { $0.nodes[number] } }

  /// Whether `file` is the directory of the host that `entry` is laid over.
  func isHostDirectory(_ file: FileIdentity, of entry: VirtualEntry) -> Bool {
    state.withLock { state in
      if state.directories[entry.path] == file { return true }
      // The host may have got the directory, or another one, since.
      noteHostDirectory(of: entry, &state)
      return state.directories[entry.path] == file
    }
  }

  private func noteHostDirectory(of entry: VirtualEntry, _ state: inout State) {
    var file = CLinux_file()
    guard CLinux_lstat(entry.path, &file) == 0, file.isDirectory else { return }
    if let old = state.directories[entry.path], old != file.identity { state.meanings[old] = nil }
    state.directories[entry.path] = file.identity
    state.meanings[file.identity] = .directory(entry)
  }

  /// Opens the place-holder of `entry` anew.
  func openPlaceHolder(
    of entry: VirtualEntry, flags: Int32
  ) throws(Errno) -> OwnedDescriptor {
    try entry.openPlaceHolder(flags: flags) { identity in
      state.withLock { $0.meanings[identity] = .placeHolder(entry) }
    }
  }
}

/// A device number.
struct DeviceNumber: Equatable {
  let major: UInt32
  let minor: UInt32

  /// st_rdev of stat(2) on 64-bit machines: new_encode_dev(), 12 bits of major between 8 and 12
  /// bits of minor.
  var encoded: UInt64 {
    UInt64((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12))
  }
}

extension CLinux_file {
  var identity: FileIdentity { FileIdentity(device: device, inode: inode) }
  var type: UInt32 { mode & UInt32(S_IFMT) }
  var isDirectory: Bool { type == UInt32(S_IFDIR) }
  var isLink: Bool { type == UInt32(S_IFLNK) }
  var isCharacterDevice: Bool { type == UInt32(S_IFCHR) }
}
