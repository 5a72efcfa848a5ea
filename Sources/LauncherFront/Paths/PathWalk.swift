// SPDX-License-Identifier: Apache-2.0

// Walks the path of another process component by component, as the kernel does (link_path_walk()):
// from the process's own root, working directory or descriptor, through the host's directories and
// the virtual tree. Where a path leaves the tree and fails on the host, the kernel says how it
// fails: the walk then only reports that the path is not of this server.

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage

/// What a path leads to.
enum PathTarget {
  /// An entry of the tree. For a directory that the host has too, `host` is that directory.
  case entry(VirtualEntry, host: OwnedDescriptor?)
  /// A name that a directory of the tree which the host does not have lacks.
  case missing(in: VirtualEntry)
  /// A file that a link of procfs to an open file leads to.
  case file(FileIdentity)
  /// A file of the host to which the path leads through a directory that the host does not have.
  case host(OwnedDescriptor)
  /// Another file of the host, or nothing.
  case foreign
}

struct PathWalk {
  /// RESOLVE_… of <linux/openat2.h>
  struct Restrictions: OptionSet {
    let rawValue: UInt64
    static let sameMount = Restrictions(rawValue: 1)
    static let noMagicLinks = Restrictions(rawValue: 2)
    static let noLinks = Restrictions(rawValue: 4)
    static let beneath = Restrictions(rawValue: 8)
    static let inRoot = Restrictions(rawValue: 0x10)
  }

  private struct Place {
    /// `nil` in a directory that the host does not have.
    var host: OwnedDescriptor?
    var identity: FileIdentity?
    var entry: VirtualEntry?
  }

  private let tree: VirtualTree
  private let task: HostTask
  /// Whether the process may have another root directory than this process.
  private let rootsDiffer: Bool
  private let followsLast: Bool
  private let restrictions: Restrictions
  /// Whether the file is one of this server, which a link of procfs can lead to.
  private let isOpenFile: (FileIdentity) -> Bool
  private var root = Place()
  private var base = Place()
  private var place = Place()
  /// The components that are left, the next one last.
  private var rest: [String] = []
  private var mustBeDirectory = false
  private var links = 0
  /// Whether the path led through a directory that the host does not have.
  private var leftHost = false
  /// Whether the path is that of a link of procfs to the target, which is not followed.
  private(set) var endsAtOpenFileLink = false

  private static let mostLinks = 40

  init(
    _ tree: VirtualTree, of task: HostTask, rootsDiffer: Bool, followsLast: Bool,
    restrictions: Restrictions = [], isOpenFile: @escaping (FileIdentity) -> Bool
  ) {
    self.tree = tree
    self.task = task
    self.rootsDiffer = rootsDiffer
    self.followsLast = followsLast
    self.restrictions = restrictions
    self.isOpenFile = isOpenFile
  }

  /// - Parameter directory: where a relative path begins: AT_FDCWD or a descriptor.
  /// - Throws: ENOTDIR for a path through a node, ENOENT for one through a missing directory of the
  ///   tree, EXDEV for one that `restrictions` forbid.
  mutating func target(of path: [UInt8], from directory: Int32) throws(Errno) -> PathTarget {
    guard let first = rootsDiffer ? enterLink("root") : enter("/") else { return .foreign }
    root = first
    let isAbsolute = path.first == PathName.slash
    if !isAbsolute || !restrictions.isDisjoint(with: [.beneath, .inRoot]) {
      let start = directory == AT_FDCWD ? "cwd" : "fd/\(directory)"
      guard let start = enterLink(start) else { return .foreign }
      base = start
    } else {
      base = root
    }
    if restrictions.contains(.inRoot) { root = base }
    if isAbsolute, restrictions.contains(.beneath) { throw .improperLink }
    place = isAbsolute ? root : base
    push(path)
    while let name = rest.popLast() {
      if let target = try step(name) { return target }
    }
    if leftHost, let host = place.host { return .host(host) }
    guard let entry = place.entry else { return .foreign }
    return .entry(entry, host: place.host)
  }

  /// The directory that a link below /proc/<pid> leads to.
  private func enterLink(_ link: String) -> Place? { enter("/proc/\(task.id)/\(link)") }

  private func enter(_ path: String) -> Place? {
    var file = CLinux_file()
    let opened = CLinux_open_path(AT_FDCWD, path, true, &file)
    guard opened >= 0 else { return nil }
    return directory(OwnedDescriptor(owning: opened), file)
  }

  /// `nil` when the file is no directory.
  private func directory(_ opened: OwnedDescriptor, _ file: CLinux_file) -> Place? {
    guard file.isDirectory else { return nil }
    return switch tree.meaning(of: file.identity) {
    case .placeHolder(let entry): Place(entry: entry)
    case .directory(let entry): Place(host: opened, identity: file.identity, entry: entry)
    case nil: Place(host: opened, identity: file.identity)
    }
  }

  /// Puts the components of `path` in front of those that are left.
  private mutating func push(_ path: [UInt8]) {
    if rest.isEmpty, path.last == PathName.slash { mustBeDirectory = true }
    let names = path.split(separator: PathName.slash)
    rest += names.reversed().map { String(decoding: $0, as: UTF8.self) }
  }

  private var isLast: Bool { rest.isEmpty }

  // MARK: One component

  /// - Returns: `nil` when the walk goes on from `place`.
  private mutating func step(_ name: String) throws(Errno) -> PathTarget? {
    switch name {
    case ".": return nil
    case "..": return try stepUp()
    default: break
    }
    if let child = place.entry?.child(name) { return try step(into: child) }
    guard let host = place.host else {
      guard isLast, let entry = place.entry else { throw .noSuchFileOrDirectory }
      return .missing(in: entry)
    }
    var file = CLinux_file()
    let opened = CLinux_open_path(host.rawValue, name, false, &file)
    guard opened >= 0 else { return .foreign }
    let descriptor = OwnedDescriptor(owning: opened)
    if file.isLink { return try follow(descriptor, named: name) }
    return try arrive(descriptor, file)
  }

  private mutating func step(into child: VirtualEntry) throws(Errno) -> PathTarget? {
    guard child.isDirectory else {
      guard isLast, !mustBeDirectory else { throw .notDirectory }
      return .entry(child, host: nil)
    }
    var next = Place(entry: child)
    if let host = place.host {
      var file = CLinux_file()
      let opened = CLinux_open_path(host.rawValue, child.name, true, &file)
      if opened >= 0 {
        next.host = OwnedDescriptor(owning: opened)
        next.identity = file.identity
        // A directory of another mount namespace.
        if !tree.isHostDirectory(file.identity, of: child) { next.entry = nil }
      }
    }
    return try move(to: next)
  }

  private mutating func stepUp() throws(Errno) -> PathTarget? {
    if isSame(place, base), restrictions.contains(.beneath) { throw .improperLink }
    if isSame(place, root) { return nil }
    guard let host = place.host else {
      leftHost = true
      place = above()
      return nil
    }
    var file = CLinux_file()
    let opened = CLinux_open_path(host.rawValue, "..", false, &file)
    guard opened >= 0, let next = directory(OwnedDescriptor(owning: opened), file) else {
      return .foreign
    }
    return try move(to: next)
  }

  private func isSame(_ a: Place, _ b: Place) -> Bool {
    if let identity = a.identity { return identity == b.identity }
    return b.host == nil && a.entry === b.entry
  }

  /// The directory above one that the host does not have.
  private func above() -> Place {
    guard let parent = place.entry?.parent, let root = root.host else { return self.root }
    var file = CLinux_file()
    let opened = CLinux_open_path(root.rawValue, String(parent.path.dropFirst()), true, &file)
    guard opened >= 0 else { return Place(entry: parent) }
    let descriptor = OwnedDescriptor(owning: opened)
    guard tree.isHostDirectory(file.identity, of: parent) else { return Place(entry: parent) }
    return Place(host: descriptor, identity: file.identity, entry: parent)
  }

  private mutating func move(to next: Place) throws(Errno) -> PathTarget? {
    if restrictions.contains(.sameMount), let from = place.host, let to = next.host,
      CLinux_mount_id(from.rawValue) != CLinux_mount_id(to.rawValue)
    {
      throw .improperLink
    }
    place = next
    return nil
  }

  /// Goes on from a file of the host that is no symbolic link.
  private mutating func arrive(
    _ opened: OwnedDescriptor, _ file: CLinux_file
  ) throws(Errno) -> PathTarget? {
    if let next = directory(opened, file) { return try move(to: next) }
    guard isLast, !mustBeDirectory else { return .foreign }
    if case .placeHolder(let entry) = tree.meaning(of: file.identity) {
      return .entry(entry, host: nil)
    }
    if file.isCharacterDevice, let node = tree.node(number: file.special) {
      return .entry(node, host: nil)
    }
    if isOpenFile(file.identity) { return .file(file.identity) }
    return leftHost ? .host(opened) : .foreign
  }

  // MARK: Symbolic links

  private mutating func follow(
    _ link: OwnedDescriptor, named name: String
  ) throws(Errno) -> PathTarget? {
    links += 1
    if links > Self.mostLinks || restrictions.contains(.noLinks) { return .foreign }
    guard let text = Self.text(of: link) else { return .foreign }
    let isMagic = CLinux_is_on_procfs(link.rawValue) && !text.starts(with: "self/".utf8)
    if isLast, !followsLast, !mustBeDirectory {
      guard isMagic else { return .foreign }
      endsAtOpenFileLink = true
    }
    if isMagic { return try followMagic(link, named: name) }
    if text.first == PathName.slash {
      if restrictions.contains(.beneath) { throw .improperLink }
      place = root
    }
    push(text)
    return nil
  }

  /// Follows a link of procfs that leads to a file, not to a path.
  private mutating func followMagic(
    _ link: OwnedDescriptor, named name: String
  ) throws(Errno) -> PathTarget? {
    var file = CLinux_file()
    let opened: Int32
    switch name {
    case "self": opened = CLinux_open_path(AT_FDCWD, "/proc/\(task.id)", true, &file)
    case "thread-self":
      opened = CLinux_open_path(AT_FDCWD, "/proc/\(task.id)/task/\(task.id)", true, &file)
    default:
      if restrictions.contains(.noMagicLinks) { return .foreign }
      if !restrictions.isDisjoint(with: [.beneath, .inRoot, .sameMount]) { throw .improperLink }
      guard let host = place.host else { return .foreign }
      opened = CLinux_open_path(host.rawValue, name, true, &file)
    }
    guard opened >= 0 else { return .foreign }
    return try arrive(OwnedDescriptor(owning: opened), file)
  }

  private static func text(of link: OwnedDescriptor) -> [UInt8]? {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(PATH_MAX)) { buffer in
      let count = CLinux_read_link(link.rawValue, buffer.baseAddress, buffer.count)
      guard count > 0, count < buffer.count else { return nil }
      return buffer[..<count].map { UInt8(bitPattern: $0) }
    }
  }
}
