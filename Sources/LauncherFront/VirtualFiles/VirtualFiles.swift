// Files beside the devices that a kernel with iommufd has, or shows differently from this one: they
// belong to no device and are found by their absolute path. Without them a program's opens for reading
// only or for writing only are not even looked at.

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage
internal import UAPI

/// Pages of a process's memory that devices have pinned, and those of them that count as locked.
package typealias PinnedPages = (pinned: UInt64, locked: UInt64)

struct VirtualFiles: Sendable {
  /// Nil without fault injection.
  let countdowns: FaultCountdowns?
  let debugDirectory: DebugDirectory?
  /// Nil: /proc/<pid>/status is the host's alone.
  let pinnedPages: (@Sendable (_ process: Int32) -> PinnedPages)?

  /// Nil when there are none.
  init?(_ options: LauncherOptions) throws(Errno) {
    guard options.failNth || options.pinnedPages != nil else { return nil }
    countdowns = options.failNth ? FaultCountdowns() : nil
    debugDirectory = options.failNth ? try DebugDirectory() : nil
    pinnedPages = options.pinnedPages
  }

  enum Opened {
    /// A file whose reads and writes we answer; its own path.
    case served(any OpenFile, path: String)
    /// A file of the host that can be left to the program.
    case plain(OwnedDescriptor)
  }

  /// What `path` means to `task`; nil for everything that is the host's.
  func open(_ path: String, flags: Int32, by task: HostTask) throws(Errno) -> Opened? {
    guard path.hasPrefix("/") else { return nil }
    if let debugDirectory, let descriptor = try debugDirectory.open(path, flags: flags) {
      return .plain(descriptor)
    }
    guard let file = TaskFile(path, seenBy: task) else { return nil }
    switch file.name {
    case "fail-nth":
      guard let countdowns else { return nil }
      return .served(
        FailNthFile(of: HostTask(id: file.task), in: countdowns),
        path: "/proc/\(file.process)/task/\(file.task)/fail-nth")
    case "status" where flags & O_ACCMODE == O_RDONLY:
      return try status(of: file.process, at: "/proc/\(file.process)/task/\(file.task)/status")
    default:
      return nil
    }
  }

  /// The host's text with our pins in it, as it is now. Nil when there are none.
  private func status(of process: Int32, at path: String) throws(Errno) -> Opened? {
    guard let (pinned, locked) = pinnedPages?(process), pinned > 0 || locked > 0,
      let native = try? ProcFile.read(path)
    else { return nil }
    let text = Self.adding(["VmLck": locked * 4, "VmPin": pinned * 4], to: native)
    let memory = try OwnedDescriptor(
      checking: CLinux_memfd_create("status", UInt32(CLinux_MFD_CLOEXEC)))
    do {
      _ = try FileDescriptor(rawValue: memory.rawValue).writeAll(text.utf8)
    } catch {
      throw .noMemory
    }
    let reader = Glibc.open("/proc/self/fd/\(memory.rawValue)", O_RDONLY | O_CLOEXEC)
    guard reader >= 0 else { throw Errno(rawValue: errno) }
    return .plain(OwnedDescriptor(owning: reader))
  }

  /// Adds kilobytes to fields of a status text.
  static func adding(_ kilobytes: [Substring: UInt64], to text: String) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2, let more = kilobytes[parts[0]],
        let old = parts[1].split(whereSeparator: \.isWhitespace).first.flatMap({ UInt64($0) })
      else { return String(line) }
      let number = String(old + more)
      let padding = String(repeating: " ", count: max(0, 8 - number.count))
      return "\(parts[0]):\t\(padding)\(number) kB"
    }.joined(separator: "\n")
  }
}

/// A file of a task under /proc.
struct TaskFile: Equatable {
  let process: Int32
  let task: Int32
  let name: String

  /// Nil for other paths, and for tasks that do not exist.
  init?(_ path: String, seenBy caller: HostTask) {
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
