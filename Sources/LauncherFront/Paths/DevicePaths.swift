// SPDX-License-Identifier: Apache-2.0

// Recognises the path names that lead to a device node.
//
// No node exists in a file system, so a path is recognised by its text. Symbolic links, `.`, `..`,
// the working directory and directory descriptors are resolved through the host's file system as
// far as the directories exist there.

internal import CLinux
internal import Glibc
internal import Host

/// The object that a path leads to.
enum PathTarget {
  case node(DeviceNode)
  /// A directory above a node, which the host need not have.
  case directory
}

struct DevicePaths: Sendable {
  private let nodes: [String: DeviceNode]
  private let directories: Set<String>
  /// The last components of all these paths. A path with another last component can lead to a node
  /// only as a symbolic link.
  private let lastComponents: Set<String>

  init(_ devices: [DeviceNode]) {
    var nodes: [String: DeviceNode] = [:]
    var directories: Set<String> = []
    for node in devices {
      for path in node.paths {
        nodes[path] = node
        var parent = Self.split(path).directory
        while parent != "/dev" && parent != "/" {
          directories.insert(parent)
          parent = Self.split(parent).directory
        }
      }
    }
    self.nodes = nodes
    self.directories = directories
    lastComponents = Set((Array(nodes.keys) + Array(directories)).map { Self.split($0).last })
  }

  /// The node or directory that `path` leads to when `task` uses it with `directory` (AT_FDCWD or a
  /// descriptor). `nil` for all other paths.
  func target(of path: String, from directory: Int32, in task: HostTask) -> PathTarget? {
    guard !path.isEmpty, var current = absolute(path, from: directory, in: task) else { return nil }
    // The kernel follows 40 links (ELOOP). Chains of more than 8 links to a node are not expected.
    for _ in 0..<8 {
      if let target = lookUp(current) { return target }
      guard let link = Self.readLink(current) else { return nil }
      // A link under /proc/<pid>/fd that leads to a stand-in file. Opening such a link opens the
      // device anew.
      if let name = StandInFile.nodePath(fromLink: link) { return lookUp(name) }
      current = link.hasPrefix("/") ? link : Self.split(current).directory + "/" + link
    }
    return nil
  }

  private func lookUp(_ path: String) -> PathTarget? {
    guard lastComponents.contains(Self.split(path).last) else { return nil }
    if let target = match(Self.normalised(path)) { return target }
    let (directory, last) = Self.split(path)
    guard let real = Self.realPath(directory) else { return nil }
    return match(real == "/" ? "/" + last : real + "/" + last)
  }

  private func match(_ path: String) -> PathTarget? {
    if let node = nodes[path] { return .node(node) }
    return directories.contains(path) ? .directory : nil
  }

  /// Returns a path by which this process reaches what `task` reaches by `path`: the parts that
  /// depend on the calling thread are replaced. `nil` when the directory cannot be found.
  private func absolute(_ path: String, from directory: Int32, in task: HostTask) -> String? {
    for prefix in ["/proc/self/", "/proc/thread-self/"] where path.hasPrefix(prefix) {
      return "/proc/\(task.id)/" + path.dropFirst(prefix.count)
    }
    if path.hasPrefix("/dev/fd/") { return "/proc/\(task.id)/fd/" + path.dropFirst(8) }
    if path.hasPrefix("/") { return path }
    let base = directory == AT_FDCWD ? "cwd" : "fd/\(directory)"
    return Self.readLink("/proc/\(task.id)/" + base).map { $0 + "/" + path }
  }

  private static func split(_ path: String) -> (directory: String, last: String) {
    guard let slash = path.lastIndex(of: "/") else { return ("", path) }
    let directory = path[..<slash]
    return (directory.isEmpty ? "/" : String(directory), String(path[path.index(after: slash)...]))
  }

  /// Resolves `.`, `..` and double slashes in the text of `path`. The result is wrong when a `..`
  /// follows a symbolic link.
  private static func normalised(_ path: String) -> String {
    var components: [Substring] = []
    for component in path.split(separator: "/") where component != "." {
      if component == ".." { _ = components.popLast() } else { components.append(component) }
    }
    return "/" + components.joined(separator: "/")
  }

  private static func readLink(_ path: String) -> String? {
    withUnsafeTemporaryAllocation(byteCount: Int(PATH_MAX), alignment: 1) { buffer in
      guard let base = buffer.baseAddress else { return nil }
      let count = readlink(path, base.assumingMemoryBound(to: CChar.self), buffer.count)
      guard count > 0, count < buffer.count else { return nil }
      return String(decoding: buffer[..<count], as: UTF8.self)
    }
  }

  private static func realPath(_ path: String) -> String? {
    guard let resolved = realpath(path, nil) else { return nil }
    defer { free(resolved) }
    return String(cString: resolved)
  }
}
