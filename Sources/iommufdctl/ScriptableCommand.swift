// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import UAPI

/// A subcommand that works on the descriptors and buffers of a session. A script runs many such
/// subcommands in one session; a command line runs one in a session of its own.
protocol ScriptableCommand: ParsableCommand {
  var options: CommonOptions { get }

  /// Executes the subcommand.
  /// - Throws: ``Failure``.
  func perform(in session: ScriptSession) throws(Failure) -> Report
}

/// A subcommand that issues one ioctl of the catalogue.
protocol IoctlCommand: ScriptableCommand {
  static var ioctl: Ioctl { get }
}

extension IoctlCommand {
  /// Returns a configuration whose abstract begins with the C name of the ioctl.
  static func ioctlConfiguration(
    _ commandName: String, _ summary: String, discussion: String
  ) -> CommandConfiguration {
    CommandConfiguration(
      commandName: commandName, abstract: "\(ioctl): \(summary)", discussion: discussion)
  }
}

/// The options of every subcommand.
struct CommonOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      """
      File descriptor of an iommufd that the shell has opened, for example with \
      `exec 3<>/dev/iommu`. Without --fd this process opens a node; when the process ends, all \
      objects of that file are destroyed.
      """, valueName: "fd"))
  var fd: Int32?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The node to open without --fd (default: the first of \(nodes) that exists).",
      valueName: "path"))
  var node: String?

  @Flag(name: .long, help: "Print results and ioctl errors as JSON, one object per line.")
  var json = false

  private static var nodes: String { ScriptSession.defaultNodes.joined(separator: ", ") }
}

extension ScriptableCommand {
  func run() throws {
    let session = ScriptSession(descriptor: options.fd, node: options.node)
    do throws(Failure) {
      try perform(in: session).print(asJSON: options.json)
    } catch {
      error.print(asJSON: options.json)
      throw ExitCode(error.exitCode)
    }
  }
}
