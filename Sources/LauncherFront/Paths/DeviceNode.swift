// The nodes a program sees under /dev, and how its path names lead to them.
//
// No node exists in any file system: a path is recognised by what it says. Spellings that lead to
// the same place through `.`, `..`, the working directory, a directory descriptor or symbolic links
// are followed as far as the real file system carries them.

internal import CLinux
internal import Glibc
internal import Host
package import UAPI

package struct DeviceNode: Sendable {
  /// Absolute paths; the first is the node's own name.
  package let paths: [String]
  /// What stat(2) shows as st_rdev.
  package let major: UInt32
  package let minor: UInt32
  package let device: any CharacterDevice

  package init(paths: [String], major: UInt32, minor: UInt32, device: any CharacterDevice) {
    self.paths = paths
    self.major = major
    self.minor = minor
    self.device = device
  }
}

/// What a path leads to.
enum PathTarget {
  case node(DeviceNode)
  /// A directory on the way to a node, which may exist for us alone.
  case directory
}

struct DevicePaths: Sendable {
  private let nodes: [String: DeviceNode]
  private let directories: Set<String>
  /// Last components of everything above: a path with another one can only be a symbolic link.
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

  /// The node or directory that `path` leads to, seen by `task` from `directory` (AT_FDCWD or a
  /// descriptor). Nil for all paths that are none of ours.
  func target(of path: String, from directory: Int32, in task: HostTask) -> PathTarget? {
    guard !path.isEmpty, var current = absolute(path, from: directory, in: task) else { return nil }
    // ELOOP's bound is 40; no one chains links to a device node that far.
    for _ in 0..<8 {
      if let target = lookUp(current) { return target }
      guard let link = Self.readLink(current) else { return nil }
      // What the kernel shows for a descriptor of ours under /proc/<pid>/fd: opening it through
      // there opens the device anew.
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

  /// `path` as this process can use it: what depends on who asks is spelt out.
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

  /// `.`, `..` and double slashes resolved as text; right unless a link stands before a `..`.
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
