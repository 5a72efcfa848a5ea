// SPDX-License-Identifier: Apache-2.0

// Files outside /dev that a kernel with iommufd has and the host lacks, or that have other contents
// there: fail-nth and the debugfs files of fault injection, and /proc/<pid>/status with pinned
// pages. They are found by their absolute paths.

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage
internal import UAPI

/// The number of pages of a process's memory that devices have pinned, and how many of them are
/// charged as locked memory.
/// - areCountedByHost: whether the host's kernel pins such pages and counts them in VmPin itself.
package typealias PinnedPages = (pinned: UInt64, locked: UInt64, areCountedByHost: Bool)

/// A virtual file that a program opens.
enum OpenedVirtualFile {
  /// A file whose reads and writes the supervisor answers, and its path.
  case served(any OpenFile, path: String)
  /// A file of the host, whose descriptor is installed in the program.
  case native(OwnedDescriptor)
}

struct VirtualFiles: Sendable {
  /// `nil` without fault injection.
  let failNth: FailNthCounters?
  /// `nil` without fault injection.
  let debugfs: DebugfsDirectory?
  /// Returns the pages to add to /proc/<pid>/status. `nil` leaves the host's file unchanged.
  let pinnedPages: (@Sendable (_ process: Int32) -> PinnedPages)?

  /// The last names of their paths.
  static let names = DebugfsDirectory.names + ["fail-nth", "status"]

  /// - Returns: `nil` when `options` asks for no virtual file.
  init?(_ options: LauncherOptions) throws(Errno) {
    guard options.failNth || options.pinnedPages != nil else { return nil }
    failNth = options.failNth ? FailNthCounters() : nil
    debugfs = options.failNth ? try DebugfsDirectory() : nil
    pinnedPages = options.pinnedPages
  }

  /// Opens the virtual file that `path` denotes when `task` uses it.
  /// - Returns: `nil` when `path` denotes a file of the host.
  func open(
    _ path: String, flags: Int32, by task: HostTask
  ) throws(Errno) -> OpenedVirtualFile? {
    guard path.hasPrefix("/") else { return nil }
    if let debugfs, let descriptor = try debugfs.open(path, flags: flags) {
      return .native(descriptor)
    }
    guard let file = ThreadFile(path, openedBy: task) else { return nil }
    switch file.name {
    case "fail-nth":
      guard let failNth else { return nil }
      return .served(
        FailNthFile(of: HostTask(id: file.task), in: failNth),
        path: "/proc/\(file.process)/task/\(file.task)/fail-nth")
    case "status" where flags & O_ACCMODE == O_RDONLY:
      return try status(of: file.process, at: "/proc/\(file.process)/task/\(file.task)/status")
    default:
      return nil
    }
  }

  /// A copy of the host's file as it is at the open, with the process's pinned pages added to VmPin
  /// and VmLck. `nil` when the process has no pinned pages. The host's kernel counts a page of a
  /// huge page as many pages (io_uring: io_buffer_account_pin()), so its VmPin is left out where
  /// its pins are those of devices.
  private func status(
    of process: Int32, at path: String
  ) throws(Errno) -> OpenedVirtualFile? {
    guard let pages = pinnedPages?(process),
      pages.pinned != 0 || pages.locked != 0 || pages.areCountedByHost,
      let native = try? ProcFile.read(path)
    else { return nil }
    let text = Self.adding(
      ["VmLck": pages.locked &* 4, "VmPin": pages.pinned &* 4], to: native,
      replacing: pages.areCountedByHost ? ["VmPin"] : [])
    let memory = try OwnedDescriptor(
      checking: CLinux_memfd_create("status", UInt32(CLinux_MFD_CLOEXEC)))
    do {
      _ = try FileDescriptor(rawValue: memory.rawValue).writeAll(text.utf8)
    } catch {
      throw .noMemory
    }
    let reader = Glibc.open("/proc/self/fd/\(memory.rawValue)", O_RDONLY | O_CLOEXEC)
    guard reader >= 0 else { throw Errno(rawValue: errno) }
    return .native(OwnedDescriptor(owning: reader))
  }

  /// Adds numbers of KiB, modulo 2^64, to fields of a text in the format of /proc/<pid>/status.
  /// - Parameter replaced: the fields whose value in `text` does not count.
  static func adding(
    _ kilobytes: [Substring: UInt64], to text: String, replacing replaced: Set<Substring> = []
  ) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2, let more = kilobytes[parts[0]],
        let old = parts[1].split(whereSeparator: \.isWhitespace).first.flatMap({ UInt64($0) })
      else { return String(line) }
      let number = String((replaced.contains(parts[0]) ? 0 : old) &+ more)
      let padding = String(repeating: " ", count: max(0, 8 - number.count))
      return "\(parts[0]):\t\(padding)\(number) kB"
    }.joined(separator: "\n")
  }
}

/// A file of a thread, fail-nth or status: /proc/<pid>/<name> or /proc/<pid>/task/<tid>/<name>.
struct ThreadFile: Equatable {
  let process: Int32
  let task: Int32
  let name: String

  /// - Returns: `nil` for other paths, and for threads that do not exist.
  init?(_ path: String, openedBy caller: HostTask) {
    let parts = path.split(separator: "/").filter { $0 != "." }
    guard parts.count == 3 || parts.count == 5 && parts[2] == "task", parts[0] == "proc",
      let name = parts.last, name == "fail-nth" || name == "status"
    else { return nil }
    let isOfThread = parts[1] == "thread-self"
    let first =
      isOfThread || parts[1] == "self" ? try? caller.processID() : Int32(parts[1])
    guard let process = first else { return nil }
    let named = parts.count == 5 ? Int32(parts[3]) : isOfThread ? caller.id : process
    guard let named, access("/proc/\(process)/task/\(named)", F_OK) == 0 else { return nil }
    self.process = process
    task = named
    self.name = String(name)
  }
}
