// What debugfs shows of fault injection, as a real directory: programs that want to be tested so look
// there first, set a few knobs, and give up when there are none. The knobs keep what is written and
// change nothing, for they are about failures by chance and about the kernel's log; failures here come
// by fail-nth only.

internal import Glibc
internal import Host
internal import SystemPackage

final class DebugDirectory: Sendable {
  /// Where programs look for it.
  private static let place = "/sys/kernel/debug"

  private let root: String

  /// With the values of a kernel that has just started.
  private static let common: [(name: String, value: String)] = [
    ("interval", "1"), ("probability", "0"), ("space", "0"), ("task-filter", "N"), ("times", "1"),
    ("verbose", "2"),
  ]
  private static let knobs: [(directory: String, files: [(name: String, value: String)])] = [
    ("fail_iommufd", common),
    (
      "fail_page_alloc",
      common + [("ignore-gfp-highmem", "Y"), ("ignore-gfp-wait", "Y"), ("min-order", "1")]
    ),
    ("failslab", common + [("cache-filter", "N"), ("ignore-gfp-wait", "Y")]),
  ]

  init() throws(Errno) {
    let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array("\(parent)/iommufd-sim.XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
    root = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    for (directory, files) in Self.knobs {
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

  /// Takes it from the file system. What programs have open stays until they close it.
  func remove() {
    for (directory, files) in Self.knobs {
      for (name, _) in files { unlink("\(root)/\(directory)/\(name)") }
      rmdir("\(root)/\(directory)")
    }
    rmdir(root)
  }

  /// Opens what a program means by an absolute path; nil when that is nothing of ours.
  func open(_ path: String, flags: Int32) throws(Errno) -> OwnedDescriptor? {
    guard path.hasPrefix(Self.place) else { return nil }
    let parts = path.dropFirst(Self.place.count).split(
      separator: "/", omittingEmptySubsequences: true)
    guard path.dropFirst(Self.place.count).first ?? "/" == "/", !parts.contains(".."),
      parts.isEmpty || Self.knobs.contains(where: { $0.directory == parts[0] })
    else { return nil }
    let target = ([root] + parts.map(String.init)).joined(separator: "/")
    // debugfs makes no files for anybody.
    let descriptor = Glibc.open(target, flags & ~(O_CREAT | O_EXCL) | O_CLOEXEC)
    guard descriptor >= 0 else { throw Errno(rawValue: errno) }
    return OwnedDescriptor(owning: descriptor)
  }
}
