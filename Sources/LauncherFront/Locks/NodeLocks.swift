// SPDX-License-Identifier: Apache-2.0

internal import Host
internal import Synchronization
internal import SystemPackage

/// The files that have the locks of nodes: flock(2) and F_OFD_SETLK lock a node's inode for an open
/// file, but each open file of a node has a stand-in with an inode of its own. So all open files of
/// a node lock one file of the server, each through an open file of its own.
final class NodeLocks: Sendable {
  /// By the path of the node.
  private let files = Mutex<[String: OwnedDescriptor]>([:])

  /// Opens the file that has the locks of the node at `path`. The locks that are taken through the
  /// result end with it.
  func open(for path: String) throws(Errno) -> OwnedDescriptor {
    try files.withLock { files throws(Errno) in
      let file: OwnedDescriptor
      if let known = files[path] {
        file = known
      } else {
        file = try StandInFile.makeMemory(for: path, size: 0)
        files[path] = file
      }
      return try StandInFile.reopen(file)
    }
  }
}
