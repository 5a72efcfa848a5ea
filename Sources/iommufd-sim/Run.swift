// SPDX-License-Identifier: Apache-2.0

// `iommufd-sim run`: docs/iommufd-sim-run.1.md is its manual.

internal import ArgumentParser
internal import Glibc
internal import Host
internal import IOMMU
internal import IOMMUFD
internal import LauncherFront
internal import Logging
internal import Machine
internal import SystemPackage
internal import UAPI

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Run a program with a simulated /dev/iommu and VFIO devices.",
    usage: "iommufd-sim run [OPTIONS] -- PROGRAM [ARGUMENT ...]",
    discussion: """
      PROGRAM and every process that it starts can open /dev/iommu (also as /dev/iommufd-sim) and \
      /dev/vfio/devices/vfioN (also below /dev/vfio-sim). This process answers their system calls \
      on these nodes, so no node is created, nothing is installed and no privilege is needed. \
      PROGRAM is unmodified; it can be static or dynamic.

        iommufd-sim run -- ./my-vfio-program
        iommufd-sim run --trace -- iommufdctl ioas-alloc
        iommufd-sim run -- sh -c 'exec 3<>/dev/iommu; iommufdctl ioas-alloc --fd 3'

      The exit status is that of PROGRAM. A signal that ends PROGRAM also ends this process. \
      Status 125: the launcher failed; 126: PROGRAM cannot be executed; 127: PROGRAM was not found.
      """)

  @OptionGroup var machineOptions: MachineOptions
  @OptionGroup var grantOptions: GrantOptions

  @Flag(help: "Print each system call that is answered, its result and the time it took.")
  var trace = false

  @Option(
    help: ArgumentHelp("Write the trace to a file instead of standard error.", valueName: "file"))
  var traceFile: String?

  @Flag(help: "Kill the processes that are left when PROGRAM ends, instead of serving them.")
  var killChildren = false

  @Flag(
    help: """
      Let programs inject faults into their calls with /proc/self/task/TID/fail-nth, as in Linux.
      """)
  var failNth = false

  @Flag(help: "At the end, print the numbers of files opened, files left open and calls answered.")
  var summary = false

  @Option(
    help: ArgumentHelp(
      "The lowest level of messages on standard error: \(Logger.Level.names) (default: warning).",
      valueName: "level"),
    transform: Logger.Level.named)
  var logLevel = Logger.Level.warning

  @Argument(parsing: .postTerminator, help: "The program and its arguments.")
  var command: [String] = []

  func validate() throws {
    if command.isEmpty { throw ValidationError("No program: give PROGRAM after `--`.") }
  }

  func run() throws {
    var options = LauncherOptions(logger: .standardError(from: logLevel))
    options.killsChildren = killChildren
    options.trace = try callTrace()
    do {
      let description = try machineOptions.description
      let machine = try makeMachine(description)
      let memory = machine.memory
      options.processEnds = { memory.preserve($0) }
      options.failNth = failNth
      options.pinsExactly = machineOptions.pinning == .exact
      PinningReport.shared.setLog { [logger = options.logger] in logger.warning("\($0)") }
      options.grants = grantOptions.grants
      if description.hasSelftest {
        options.grants.formUnion(GrantOptions.missing([.sysResource]))
        options.pinnedPages = { PinningHost.shared.counters.pages(ofProcess: $0) }
      }
      let result = try Launcher(nodes: Self.nodes(of: machine), options: options).run(command)
      if summary { say(Self.describe(result.counts)) }
      result.end.endProcessLikewise()
    } catch let error as MachineError {
      throw failure(error.description)
    } catch let error as LauncherError {
      say(error.description)
      throw ExitCode(error.exitCode)
    } catch let error as ExitCode {
      throw error
    } catch {
      throw failure("\(error)")
    }
  }

  private func makeMachine(_ description: MachineDescription) throws -> Machine {
    do {
      return try Machine(description, limits: machineOptions.limits)
    } catch let error as Errno {
      throw failure(
        """
        cannot reserve address space for the memory of the simulated machine: \(error) \
        (RLIMIT_AS or RLIMIT_DATA, `ulimit -v`, `ulimit -d`)
        """)
    }
  }

  /// Returns the nodes of the launcher: the iommufd with device number 511:0, and the devices from
  /// 510:0 on. Each has the path that the kernel uses and the path that `serve` uses.
  private static func nodes(of machine: Machine) -> [DeviceNode] {
    let iommufd = DeviceNode(
      paths: ["/dev/iommu", "/dev/iommufd-sim"], major: 511, minor: 0, device: machine.iommufd)
    let devices = machine.devices.enumerated().map { index, device in
      DeviceNode(
        paths: ["/dev/vfio/devices/vfio\(index)", "/dev/vfio-sim/devices/vfio\(index)"], major: 510,
        minor: UInt32(index), device: device.node)
    }
    return [iommufd] + devices
  }

  private func callTrace() throws -> CallTrace? {
    guard let traceFile else {
      return trace ? CallTrace(to: .standardError) : nil
    }
    do {
      let file = try FileDescriptor.open(
        traceFile, .writeOnly, options: [.create, .truncate, .closeOnExec],
        permissions: [.ownerReadWrite, .groupRead, .otherRead])
      return CallTrace(to: file)
    } catch let error as Errno {
      throw failure("--trace-file \(traceFile): \(error)")
    }
  }

  /// Reports an error of the launcher. Status 125 differs from those of PROGRAM, as in
  /// env(1) and timeout(1).
  private func failure(_ text: String) -> ExitCode {
    say(text)
    return ExitCode(125)
  }

  private func say(_ text: String) {
    _ = try? FileDescriptor.standardError.writeAll("iommufd-sim run: \(text)\n".utf8)
  }

  private static func describe(_ counts: LauncherCounts) -> String {
    let pins = PinningReport.shared.counts
    return "\(counts.opened) files opened, \(counts.stillOpen) still open; "
      + "\(counts.answered) calls answered, "
      + "\(counts.passedOn) passed on; \(counts.workers) threads; "
      + "private memory pinned \(pins.exact) times, used in place \(pins.inPlace) times"
  }
}
