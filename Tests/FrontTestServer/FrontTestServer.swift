// SPDX-License-Identifier: Apache-2.0

// The test devices under each front end, for scripts/dev/test/launcher and scripts/dev/test/cuse:
//
//   front-test-server run PROGRAM…           runs PROGRAM under the launcher
//   front-test-server serve NAME [PIDFILE]   serves nodes over CUSE
//
//                 under the launcher                            over CUSE
//   main node     /dev/iommu, /dev/iommufd-sim                  /dev/NAME
//   offsets node  …/devices/vfio0 in /dev/vfio, /dev/vfio-sim   /dev/NAME-nodes/offsets0

internal import ArgumentParser
internal import CUSEFront
internal import Glibc
internal import LauncherFront
internal import Logging
internal import SystemPackage

@main
struct FrontTestServer: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "front-test-server",
    abstract: "Serve the devices that test the front ends.",
    subcommands: [Run.self, Serve.self])

  /// Returns a logger that writes to standard error.
  fileprivate static func logger(from level: Logger.Level) -> Logger {
    LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
    var logger = Logger(label: "front-test-server")
    logger.logLevel = level
    return logger
  }
}

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run a program under the launcher. The exit status is the program's.")

  @Option(
    help: ArgumentHelp(
      "Append the numbers of opened files, of files not released, and of worker threads.",
      valueName: "file"))
  var counts: String?

  @Flag(help: "When the program ends, kill the processes that it has left.")
  var killChildren = false

  @Flag(help: "Print each answered call to standard error.")
  var trace = false

  @Argument(parsing: .captureForPassthrough, help: "The program and its arguments.")
  var command: [String]

  private static let nodes = [
    DeviceNode(
      paths: ["/dev/iommu", "/dev/iommufd-sim"], major: 511, minor: 0,
      device: TestDevice(name: "iommu", kind: .main)),
    DeviceNode(
      paths: ["/dev/vfio/devices/vfio0", "/dev/vfio-sim/devices/vfio0"], major: 511, minor: 1,
      device: TestDevice(name: "vfio/devices/vfio0", kind: .offsets)),
  ]

  func run() throws {
    var options = LauncherOptions(logger: FrontTestServer.logger(from: .warning))
    options.killsChildren = killChildren
    if trace { options.trace = CallTrace(to: .standardError) }
    do {
      let result = try Launcher(nodes: Self.nodes, options: options).run(command)
      try append(result.counts)
      result.end.endProcessLikewise()
    } catch let error as LauncherError {
      _ = try? FileDescriptor.standardError.writeAll("\(error.description)\n".utf8)
      throw ExitCode(error.exitCode)
    }
  }

  private func append(_ result: LauncherCounts) throws {
    guard let counts else { return }
    let file = try FileDescriptor.open(
      counts, .writeOnly, options: [.create, .append, .closeOnExec],
      permissions: .ownerReadWrite)
    defer { try? file.close() }
    _ = try file.writeAll(
      "opened \(result.opened) open \(result.stillOpen) workers \(result.workers)\n".utf8)
  }
}

struct Serve: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Serve /dev/NAME and /dev/NAME-nodes/offsets0 over CUSE until a signal ends it.")

  @Argument(help: "The name of the main node.")
  var name: String

  @Argument(help: "A file for the ID of the process. It exists while the nodes can be opened.")
  var pidFile: String?

  func run() throws {
    let (main, offsets) = (name, "\(name)-nodes/offsets0")
    let process = ServerProcess(
      nodes: [
        CUSEServer.Node(
          TestDevice(name: main, kind: .main), name: main, mode: 0o666, group: 0),
        CUSEServer.Node(
          TestDevice(name: offsets, kind: .offsets), name: offsets, mode: 0o640, group: 1),
      ],
      queueName: "\(name)-q", pidFile: pidFile, log: FrontTestServer.logger(from: .notice))
    throw ExitCode(process.run())
  }
}
