// SPDX-License-Identifier: Apache-2.0

// The launcher of `iommufd-sim run`: unmodified programs use /dev/iommu without root and without a
// node in /dev. A seccomp filter (SyscallFilter) traps those of their system calls that may concern
// a device and passes them to this process, the supervisor. The supervisor answers them
// (Supervisor) from the same devices that the CUSE front end serves, or has the kernel execute
// them.
//
//   program ──openat("/dev/iommu")──▶ supervisor: device.open() ──▶ stand-in file ──▶ program's fd
//   program ──ioctl(fd, …)──────────▶ supervisor: stand-in's inode ──▶ OpenFile.ioctl()
//   program ──close(fd)─────────────▶ kernel ──inotify──▶ supervisor: OpenFile.release()
//
// fork and exec keep the filter, so child processes are served too. The filter cannot be removed:
// when the supervisor is killed, trapped calls fail with ENOSYS.

internal import CLinux
internal import FrontEnd
internal import Glibc
package import Host
package import Logging
internal import SystemPackage

package struct LauncherOptions: Sendable {
  /// `nil` without `--trace`.
  package var trace: CallTrace?
  /// Whether the processes that PROGRAM leaves behind are killed when it ends. Otherwise they are
  /// served until they end.
  package var killsChildren = false
  /// Called when a process whose memory a device uses ends or executes another program. The process
  /// waits meanwhile, so its memory can still be read.
  package var processEnds: (@Sendable (AddressSpace) -> Void)?
  /// Whether programs see the kernel's interface of fault injection: fail-nth of each thread, and
  /// debugfs.
  package var failNth = false
  /// Whether the kernel pins private memory of programs, where that is possible.
  package var pinsExactly = false
  /// Returns the pinned pages of a process, which /proc/<pid>/status adds to the host's VmPin and
  /// VmLck. `nil` leaves the host's file unchanged.
  package var pinnedPages: (@Sendable (_ process: Int32) -> PinnedPages)?
  /// See ``GrantedCapabilities``.
  package var grants: Set<Capability> = []
  package var logger: Logger

  package init(logger: Logger) {
    self.logger = logger
  }
}

/// Numbers for the launcher's summary.
package struct LauncherCounts: Sendable {
  /// Device files, virtual files and queues that were opened.
  package let opened: Int
  /// Those of them that were not released.
  package let stillOpen: Int
  /// Trapped calls that the supervisor answered.
  package let answered: Int
  /// Trapped calls that the kernel executed.
  package let passedOn: Int
  /// Worker threads.
  package let workers: Int
}

/// The reason why PROGRAM did not run.
package struct LauncherError: Error, CustomStringConvertible {
  /// The exit status that env(1) and nohup(1) have in the same case.
  package let exitCode: Int32
  package let description: String
}

/// The result of ``Launcher/run(_:)``.
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

  /// Runs `command`, a program and its arguments, until all processes that it started have ended.
  /// Must be called once, from the main thread, in a process that has started no other thread and
  /// no child.
  /// - Throws: `LauncherError` when the program did not run. No process of it is left then.
  package func run(_ command: [String]) throws -> LauncherResult {
    ProgramStart.prepare()
    let mask = ProcessTree.blockSignals()
    _ = CLinux_set_child_subreaper()
    // This process needs a descriptor for each queue of a program.
    DescriptorLimit.useHardLimit()
    let fractions = Shares.Fractions(user: nil, process: 2)
    ChargedShares.descriptors.divide(DescriptorLimit.forClients, fractions)
    ChargedShares.openFiles.divide(StandInFile.limit, fractions)
    try HostRequirements.check()
    let virtualFiles = try makeVirtualFiles()
    defer { virtualFiles?.debugfs?.remove() }
    let (program, reports) = try spawn(command, mask: mask)
    let listener = try receiveListener(from: reports, program: program)
    let supervisor: Supervisor
    do {
      supervisor = try startSupervisor(listener, virtualFiles)
      try checkExecution(from: reports, program: program, name: command.first ?? "")
    } catch {
      // The listener is open until the program has ended, because trapped calls without a listener
      // fail with ENOSYS, exit_group(2) among them.
      kill(program, SIGKILL)
      waitpid(program, nil, 0)
      withExtendedLifetime(listener) {}
      throw error
    }
    var tree = ProcessTree(
      program: program, killsChildren: options.killsChildren, logger: options.logger)
    let end = tree.wait()
    return LauncherResult(end: end, counts: supervisor.finish())
  }

  private func makeVirtualFiles() throws -> VirtualFiles? {
    do throws(Errno) {
      return try VirtualFiles(options)
    } catch {
      throw failure("cannot create a directory for debugfs in $TMPDIR", error)
    }
  }

  private func startSupervisor(
    _ listener: OwnedDescriptor, _ virtualFiles: VirtualFiles?
  ) throws -> Supervisor {
    do throws(Errno) {
      let supervisor = try Supervisor(
        listener: SeccompListener(listener), nodes: nodes, virtualFiles: virtualFiles,
        options: options)
      try supervisor.start()
      return supervisor
    } catch {
      throw failure("cannot start the supervisor of the program", error)
    }
  }

  private func reportChannel() throws -> (OwnedDescriptor, OwnedDescriptor) {
    do throws(Errno) {
      return try UnixSocket.pair()
    } catch {
      throw failure("cannot create a socket pair", error)
    }
  }

  /// - Returns: the child's process ID, and the end of the socket pair that receives its reports.
  ///   This process has closed the other end.
  private func spawn(_ command: [String], mask: sigset_t) throws -> (Int32, OwnedDescriptor) {
    let (receiver, sender) = try reportChannel()
    let child = fork(command, mask: mask, reports: sender)
    guard child > 0 else { throw failure("cannot fork", Errno(rawValue: -child)) }
    return (child, receiver)
  }

  private func fork(_ command: [String], mask: sigset_t, reports: OwnedDescriptor) -> Int32 {
    let exits = options.processEnds == nil ? [] : Trap.exits
    let hasVirtualFiles = options.failNth || options.pinnedPages != nil
    let table = hasVirtualFiles ? Trap.tableWithVirtualFiles : Trap.table
    var filter = SyscallFilter(table + exits).instructions
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

  /// Receives the listener descriptor of the filter from the child.
  private func receiveListener(
    from reports: OwnedDescriptor, program: Int32
  ) throws -> OwnedDescriptor {
    var report = CLinux_spawn_report()
    var descriptor: Int32 = -1
    let result = CLinux_spawn_receive(reports.rawValue, &report, &descriptor)
    guard result == 1 else {
      throw failure(
        "the child process ended before its system call filter was installed",
        Errno(rawValue: -result))
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
          whose runtime uses seccomp notification, and the kernel allows only one supervisor. \
          Programs under a launcher use its devices without a second launcher.
          """)
    }
    throw failure("cannot install the system call filter", error)
  }

  /// Waits until the child has executed the program.
  /// - Throws: `LauncherError` when it could not.
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
    LauncherError(what, error)
  }
}

extension LauncherError {
  /// An error of the launcher itself.
  init(_ what: String, _ error: Errno) {
    self.init(exitCode: 125, description: "\(what): \(error)")
  }
}
