// SPDX-License-Identifier: Apache-2.0

// `iommufd-sim serve`: docs/iommufd-sim-serve.8.md is its manual.

internal import ArgumentParser
internal import CUSEFront
internal import Glibc
internal import Host
internal import IOMMU
internal import Logging
internal import Machine
internal import UAPI

struct Serve: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Serve a simulated iommufd and VFIO devices as device nodes.",
    discussion: """
      Creates /dev/iommufd-sim, and a node below /dev/vfio-sim/devices for each device of the \
      simulated machine. Every program on this machine can open them, and runs unmodified. Needs \
      root and /dev/cuse (modprobe cuse).

      The process stays in the foreground until SIGTERM, SIGINT or SIGHUP. The nodes exist as \
      long as the process. SIGUSR1 logs the numbers of open files, calls and threads.

        iommufd-sim serve
        iommufd-sim serve --daemon --group kvm --pid-file /run/iommufd-sim.pid
        iommufd-sim serve --name iommu --vfio-prefix vfio/devices
      """)

  @OptionGroup var machineOptions: MachineOptions
  @OptionGroup var grantOptions: GrantOptions

  @Option(
    help: ArgumentHelp(
      "Path of the iommufd's node below /dev. Use 'iommu' where the kernel has no /dev/iommu.",
      valueName: "path"))
  var name = "iommufd-sim"

  @Option(
    help: ArgumentHelp("Octal mode of the nodes (default: 660).", valueName: "mode"),
    transform: Self.mode)
  var mode: UInt32 = 0o660

  @Option(
    help: ArgumentHelp("Name or number of the nodes' group (default: root).", valueName: "group"),
    transform: Self.group)
  var group: UInt32 = 0

  @Option(help: "Major number of the nodes. Without it the kernel chooses the device numbers.")
  var major: UInt32?

  @Option(
    help: """
      Minor number of the iommufd's node; the other nodes have the next numbers. Needs --major.
      """)
  var minor: UInt32?

  @Option(
    help: ArgumentHelp("Directory of the VFIO devices' nodes below /dev.", valueName: "path"))
  var vfioPrefix = "vfio-sim/devices"

  @Flag(help: "Serve in the background; return when all nodes can be opened.")
  var daemon = false

  @Option(help: ArgumentHelp("Write the process ID of the server to a file.", valueName: "file"))
  var pidFile: String?

  @Option(
    help: ArgumentHelp("Append messages to a file instead of standard error.", valueName: "file"))
  var logFile: String?

  @Option(
    help: ArgumentHelp(
      "The lowest level of messages: \(Logger.Level.names) (default: notice).",
      valueName: "level"),
    transform: Logger.Level.named)
  var logLevel = Logger.Level.notice

  func validate() throws {
    for path in [name, vfioPrefix] where !Self.isNodePath(path) {
      throw ValidationError(
        "'\(path)' is not a path of a node below /dev: such a path has letters, digits, '-', '_' "
          + "and '.', no part of it begins with a dot, and it is shorter than 64 bytes.")
    }
    if minor != nil && major == nil { throw ValidationError("--minor needs --major.") }
    if let major, major == 0 || major > 511 {
      throw ValidationError("--major must be between 1 and 511, not \(major).")
    }
    if let minor, minor >= 1 << 20 - 256 {
      throw ValidationError("--minor must be at most \((1 << 20) - 257), not \(minor).")
    }
  }

  func run() throws {
    if daemon { throw ExitCode(try Daemon.start()) }
    if let logFile { try Daemon.redirectMessages(to: logFile) }
    let machine = try Machine(machineOptions.description, limits: machineOptions.limits)
    let memory = machine.memory
    let log = Logger.standardError(from: logLevel)
    let process = ServerProcess(
      nodes: nodes(of: machine), queueName: name + "-q", numbers: (major ?? 0, minor ?? 0),
      pidFile: pidFile.map(Daemon.absolute), grants: grantOptions.grants,
      processEnds: { memory.preserve($0) }, pinsExactly: machineOptions.pinning == .exact, log: log)
    PinningReport.shared.setLog { log.warning("\($0)") }
    let keepsMessages = logFile != nil
    let status = process.run { Daemon.reportReady(keepingMessages: keepsMessages) }
    throw ExitCode(status)
  }

  private func nodes(of machine: Machine) -> [CUSEServer.Node] {
    machine.nodes.map {
      CUSEServer.Node($0, name: path(of: $0), mode: mode, group: group)
    }
  }

  /// Returns the path of a device's node below /dev. `vfio/devices/vfioN` is moved below the
  /// prefix; the only other device is the iommufd.
  private func path(of device: any CharacterDevice) -> String {
    guard let slash = device.name.lastIndex(of: "/") else { return name }
    return vfioPrefix + device.name[slash...]
  }

  private static func isNodePath(_ path: String) -> Bool {
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    let allowed = { (character: Character) in
      character.isASCII && (character.isLetter || character.isNumber || "-_.".contains(character))
    }
    return path.utf8.count < 64
      && parts.allSatisfy { !$0.isEmpty && !$0.hasPrefix(".") && $0.allSatisfy(allowed) }
  }

  @Sendable private static func mode(_ text: String) throws -> UInt32 {
    guard let mode = UInt32(text, radix: 8), mode <= 0o777 else {
      throw ValidationError("'\(text)' is not an octal mode, such as 660.")
    }
    return mode
  }

  @Sendable private static func group(_ text: String) throws -> UInt32 {
    if let number = UInt32(text) { return number }
    guard let entry = getgrnam(text) else {
      throw ValidationError("This machine has no group '\(text)'.")
    }
    return entry.pointee.gr_gid
  }
}
