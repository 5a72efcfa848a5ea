// SPDX-License-Identifier: Apache-2.0

// A file that programs see and no file system has: a device node, or a directory above nodes. A
// directory that the host has too (/dev) shows its own entries beside the host's.
//
// An entry has a place-holder: a file of the host that programs hold where they have opened the
// entry without opening a device. For a node that is a memfd (O_PATH), for a directory an empty
// directory without a name. The place-holder identifies the entry. It lives as long as the entry.

internal import CLinux
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage

final class VirtualEntry: Sendable {
  enum Kind {
    case directory
    case node(DeviceNode)
  }

  /// The absolute path.
  let path: String
  let kind: Kind
  /// The inode number that stat(2) shows. No two entries have the same.
  let inode: UInt64
  /// `nil` for the root directory.
  let parent: VirtualEntry?
  private let entries = Mutex<[String: VirtualEntry]>([:])
  private let state: Mutex<FileAttributes>
  private let placeHolderFile = Mutex<OwnedDescriptor?>(nil)

  init(path: String, kind: Kind, inode: UInt64, parent: VirtualEntry?) {
    self.path = path
    self.kind = kind
    self.inode = inode
    self.parent = parent
    state = Mutex(FileAttributes(permissions: Self.permissions(of: kind)))
  }

  private static func permissions(of kind: Kind) -> UInt32 {
    switch kind {
    case .directory: 0o755
    case .node: 0o666
    }
  }

  var name: String {
    String(path[path.index(after: path.lastIndex(of: "/") ?? path.startIndex)...])
  }

  var isDirectory: Bool { node == nil }

  /// `nil` for a directory.
  var node: DeviceNode? {
    if case .node(let node) = kind { node } else { nil }
  }

  // MARK: Directories

  func child(_ name: String) -> VirtualEntry? { entries.withLock { $0[name] } }

  /// In the order of their inode numbers.
  var children: [VirtualEntry] {
    entries.withLock { Array($0.values) }.sorted { $0.inode < $1.inode }
  }

  func insert(_ child: VirtualEntry) { entries.withLock { $0[child.name] = child } }

  // MARK: Attributes

  var attributes: FileAttributes { state.withLock { $0 } }

  func update(_ change: (inout FileAttributes) -> Void) { state.withLock { change(&$0) } }

  // MARK: The place-holder

  /// Opens the place-holder anew. `flags` are those of open(2).
  /// - Parameter isFirst: called with the place-holder's identity when it has been made.
  func openPlaceHolder(
    flags: Int32, isFirst: (FileIdentity) -> Void
  ) throws(Errno) -> OwnedDescriptor {
    try placeHolderFile.withLock { file throws(Errno) in
      if file == nil {
        let made = try makePlaceHolder()
        isFirst(try FileIdentity(of: made))
        file = made
      }
      guard let file else { throw .noMemory }
      return try StandInFile.reopen(file, flags: flags)
    }
  }

  private func makePlaceHolder() throws(Errno) -> OwnedDescriptor {
    guard isDirectory else { return try StandInFile.makeMemory(for: path, size: 0) }
    let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array("\(parent)/iommufd-sim.XXXXXX".utf8CString)
    return try OwnedDescriptor(checking: CLinux_nameless_directory(&template))
  }
}
