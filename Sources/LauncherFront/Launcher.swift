// `iommufd-sim run`: programs that were written for /dev/iommu run as they are, without root and
// without a node in /dev. A seccomp filter (SyscallFilter) hands those of their system calls that may
// concern a device to this process, the supervisor, which answers them (Supervisor) from the same
// devices that the CUSE front end serves, or lets the kernel go on.
//
//   program ──openat("/dev/iommu")──▶ supervisor: device.open() ──▶ carrier memfd ──▶ fd of program
//   program ──ioctl(fd, …)──────────▶ supervisor: carrier's inode ──▶ OpenFile.ioctl()
//   program ──close(fd)─────────────▶ kernel ──inotify──▶ supervisor: OpenFile.release()
//
// The filter survives fork and exec, so children are served too. It cannot be removed: when the
// supervisor is killed, the calls it would have seen fail with ENOSYS.

internal import CLinux
internal import FrontEnd
internal import Glibc
package import Host
package import Logging
internal import SystemPackage

package struct LauncherOptions: Sendable {
  package var trace: CallTrace?
  /// Kill what PROGRAM left running when it ends, instead of serving it on.
  package var killsChildren = false
  /// Called while a process waits to end, or to execute another program, whose memory a device has.
  package var processEnds: (@Sendable (AddressSpace) -> Void)?
  /// Programs find the kernel's interface for fault injection: fail-nth of every task, and debugfs.
  package var failNth = false
  /// What /proc/<pid>/status has to show beside the host's own VmPin and VmLck.
  package var pinnedPages: (@Sendable (_ process: Int32) -> PinnedPages)?
  /// What callers with user id 0 are capable of, where this process is not: a container's root lacks
  /// what a host's root has.
  package var capabilitiesOfRoot: Set<Capability> = []
  package var logger: Logger

  package init(logger: Logger) {
    self.logger = logger
  }
}

/// What the launcher did, for its summary.
package struct LauncherCounts: Sendable {
  /// Device files and queues opened, and how many of them are not released.
  package let opened: Int
  package let stillOpen: Int
  /// Calls answered here, and calls looked at and left to the kernel.
  package let answered: Int
  package let passedOn: Int
  package let workers: Int
}

/// Why PROGRAM did not run. The code is what env(1) and nohup(1) end with in the same case.
package struct LauncherError: Error, CustomStringConvertible {
  package let exitCode: Int32
  package let description: String
}

package struct LauncherResult: Sendable {
  package let end: ProgramEnd
  package let counts: LauncherCounts
}

package struct Launcher {
  private let nodes: [DeviceNode]
  private let options: LauncherOptions

  package init(nodes: [DeviceNode], options: LauncherOptions) {
    self.nodes = nodes
    self.options = options
  }

  /// Runs `command`, a program and its arguments, until every process it started is gone. To be
  /// called once, from the main thread of a process with no other thread of ours and no other child.
  package func run(_ command: [String]) throws -> LauncherResult {
    let mask = ProcessTree.blockSignals()
    _ = CLinux_set_child_subreaper()
    // Each queue of a program costs this process a descriptor.
    DescriptorLimit.useHardLimit()
    let virtualFiles = try VirtualFiles(options)
    defer { virtualFiles?.debugDirectory?.remove() }
    let (program, ours) = try spawn(command, mask: mask)
    let listener = try receiveListener(from: ours, program: program)
    let supervisor = try Supervisor(
      listener: Listener(listener), nodes: nodes, virtualFiles: virtualFiles, options: options)
    supervisor.start()
    try checkExecution(from: ours, program: program, name: command.first ?? "")
    var tree = ProcessTree(
      program: program, killsChildren: options.killsChildren, logger: options.logger)
    let end = tree.wait()
    supervisor.files.settle()
    return LauncherResult(end: end, counts: supervisor.counts)
  }

  private func reportChannel() throws -> (OwnedDescriptor, OwnedDescriptor) {
    do throws(Errno) {
      return try UnixSocket.pair()
    } catch {
      throw failure("socketpair", error)
    }
  }

  /// - Returns: the child, and our end of its reports, the only one left in this process.
  private func spawn(_ command: [String], mask: sigset_t) throws -> (Int32, OwnedDescriptor) {
    let (ours, theirs) = try reportChannel()
    let child = fork(command, mask: mask, reports: theirs)
    guard child > 0 else { throw failure("fork", Errno(rawValue: -child)) }
    return (child, ours)
  }

  private func fork(_ command: [String], mask: sigset_t, reports: OwnedDescriptor) -> Int32 {
    let ends = options.processEnds == nil ? [] : Trap.ends
    let hasVirtualFiles = options.failNth || options.pinnedPages != nil
    let table = hasVirtualFiles ? Trap.tableWithVirtualFiles : Trap.table
    var filter = SyscallFilter(table + ends).instructions
    var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    return filter.withUnsafeMutableBufferPointer { filter in
      arguments.withUnsafeMutableBufferPointer { arguments in
        var spawn = CLinux_spawn()
        spawn.program = UnsafePointer(arguments[0])
        spawn.arguments = arguments.baseAddress.map { UnsafePointer($0) }
        spawn.filter = filter.baseAddress
        spawn.filter_length = UInt16(filter.count)
        spawn.descriptor_limit = UInt64(firstQueueDescriptor) + 64
        spawn.signal_mask = mask
        spawn.reports = reports.rawValue
        return CLinux_spawn_filtered(&spawn)
      }
    }
  }

  private func receiveListener(
    from reports: OwnedDescriptor, program: Int32
  ) throws -> OwnedDescriptor {
    var report = CLinux_spawn_report()
    var descriptor: Int32 = -1
    let result = CLinux_spawn_receive(reports.rawValue, &report, &descriptor)
    guard result == 1 else {
      throw failure("the child ended before it was supervised", Errno(rawValue: -result))
    }
    if report.stage == Int32(CLinux_spawn_listening.rawValue), descriptor >= 0 {
      return OwnedDescriptor(owning: descriptor)
    }
    waitpid(program, nil, 0)
    let error = Errno(rawValue: report.error)
    if report.stage == Int32(CLinux_spawn_filter.rawValue), error == .resourceBusy {
      throw LauncherError(
        exitCode: 125,
        description: """
          this process is supervised already: it runs under another launcher, or in a container \
          whose runtime uses seccomp notification, and the kernel allows one supervisor only. \
          Programs under a launcher see its devices without a second one.
          """)
    }
    throw failure("installing the system call filter", error)
  }

  /// Waits until the program runs.
  private func checkExecution(
    from reports: OwnedDescriptor, program: Int32, name: String
  ) throws {
    var report = CLinux_spawn_report()
    var descriptor: Int32 = -1
    guard CLinux_spawn_receive(reports.rawValue, &report, &descriptor) == 1 else { return }
    waitpid(program, nil, 0)
    let error = Errno(rawValue: report.error)
    throw LauncherError(
      exitCode: error == .noSuchFileOrDirectory ? 127 : 126, description: "\(name): \(error)")
  }

  private func failure(_ what: String, _ error: Errno) -> LauncherError {
    LauncherError(exitCode: 125, description: "\(what): \(error)")
  }
}
