// SPDX-License-Identifier: Apache-2.0

// The fault injection directories of debugfs (/sys/kernel/debug/failslab and others), as a
// directory in $TMPDIR. Programs that test themselves with fault injection look for these
// directories first, write some of their files, and give up when there are none. The files keep
// what is written and have no effect: they configure random failures and the kernel's log, and this
// server injects failures by fail-nth only.

internal import Glibc
internal import Host
internal import SystemPackage

final class DebugfsDirectory: Sendable {
  /// The path by which programs open it.
  private static let mountPoint = "/sys/kernel/debug"

  /// The path of the directory in $TMPDIR.
  private let root: String

  /// The files that each directory has, with their values after the kernel has booted.
  private static let common: [(name: String, value: String)] = [
    ("interval", "1"), ("probability", "0"), ("space", "0"), ("task-filter", "N"), ("times", "1"),
    ("verbose", "2"),
  ]
  private static let directories: [(name: String, files: [(name: String, value: String)])] = [
    ("fail_iommufd", common),
    (
      "fail_page_alloc",
      common + [("ignore-gfp-highmem", "Y"), ("ignore-gfp-wait", "Y"), ("min-order", "1")]
    ),
    ("failslab", common + [("cache-filter", "N"), ("ignore-gfp-wait", "Y")]),
  ]

  /// The last names of the paths below the mount point, and of the mount point.
  static let names =
    ["debug"] + directories.flatMap { directory in [directory.name] + directory.files.map(\.name) }

  init() throws(Errno) {
    let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array("\(parent)/iommufd-sim.XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
    root = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    for (directory, files) in Self.directories {
      guard mkdir("\(root)/\(directory)", 0o755) == 0 else { throw Errno(rawValue: errno) }
      for (name, value) in files {
        try Self.write(value + "\n", to: "\(root)/\(directory)/\(name)")
      }
    }
  }

  private static func write(_ text: String, to path: String) throws(Errno) {
    do {
      let file = try FileDescriptor.open(
        path, .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec],
        permissions: [.ownerReadWrite])
      try file.closeAfter { _ = try file.writeAll(text.utf8) }
    } catch {
      throw (error as? Errno) ?? .ioError
    }
  }

  /// Removes the directory. Files that programs have opened stay until they are closed.
  func remove() {
    for (directory, files) in Self.directories {
      for (name, _) in files { unlink("\(root)/\(directory)/\(name)") }
      rmdir("\(root)/\(directory)")
    }
    rmdir(root)
  }

  /// Opens the file or directory that a program's absolute path denotes.
  /// - Returns: `nil` when the path does not lead below the fault injection directories.
  func open(_ path: String, flags: Int32) throws(Errno) -> OwnedDescriptor? {
    guard path.hasPrefix(Self.mountPoint) else { return nil }
    let parts = path.dropFirst(Self.mountPoint.count).split(
      separator: "/", omittingEmptySubsequences: true)
    guard path.dropFirst(Self.mountPoint.count).first ?? "/" == "/", !parts.contains(".."),
      parts.isEmpty || Self.directories.contains(where: { $0.name == parts[0] })
    else { return nil }
    let target = ([root] + parts.map(String.init)).joined(separator: "/")
    // debugfs does not let programs create files.
    let descriptor = Glibc.open(target, flags & ~(O_CREAT | O_EXCL) | O_CLOEXEC)
    guard descriptor >= 0 else { throw Errno(rawValue: errno) }
    return OwnedDescriptor(owning: descriptor)
  }
}
