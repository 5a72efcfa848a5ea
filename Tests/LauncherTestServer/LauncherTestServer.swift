// A launcher with small devices that test the front end: `launcher-test-server PROGRAM …`.
//
// Environment: COUNTS=FILE appends the numbers of files opened and not released at the end to FILE;
// KILL_CHILDREN=1 is `iommufd-sim run --kill-children`; TRACE=1 traces to standard error.

internal import Glibc
internal import LauncherFront
internal import Logging
internal import SystemPackage

@main
enum LauncherTestServer {
  private static let nodes = [
    DeviceNode(
      paths: ["/dev/iommu", "/dev/iommufd-sim"], major: 511, minor: 0,
      device: TestDevice(name: "iommu")),
    DeviceNode(
      paths: ["/dev/vfio/devices/vfio0", "/dev/vfio-sim/devices/vfio0"], major: 511, minor: 1,
      device: TestDevice(name: "vfio/devices/vfio0")),
  ]

  static func main() throws {
    var logger = Logger(label: "launcher-test-server")
    logger.logLevel = .warning
    var options = LauncherOptions(logger: logger)
    options.killsChildren = getenv("KILL_CHILDREN") != nil
    if getenv("TRACE") != nil { options.trace = CallTrace(to: .standardError) }
    let command = Array(CommandLine.arguments.dropFirst())
    do {
      let result = try Launcher(nodes: nodes, options: options).run(command)
      try append(result.counts)
      result.end.endProcessLikewise()
    } catch let error as LauncherError {
      _ = try? FileDescriptor.standardError.writeAll("\(error.description)\n".utf8)
      exit(error.exitCode)
    }
  }

  private static func append(_ counts: LauncherCounts) throws {
    guard let path = getenv("COUNTS") else { return }
    let file = try FileDescriptor.open(
      String(cString: path), .writeOnly, options: [.create, .append, .closeOnExec],
      permissions: .ownerReadWrite)
    defer { try? file.close() }
    _ = try file.writeAll(
      "opened \(counts.opened) open \(counts.stillOpen) workers \(counts.workers)\n".utf8)
  }
}
