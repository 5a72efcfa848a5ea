internal import ArgumentParser
internal import Glibc
internal import Host
internal import SystemPackage

/// A subcommand that does its work in a session, so that a script can run many in one.
protocol Command: ParsableCommand {
  var options: CommonOptions { get }

  /// Does what the command says.
  /// - Throws: ``Failure``.
  func perform(in session: Session) throws(Failure) -> Report
}

/// What every subcommand accepts.
struct CommonOptions: ParsableArguments {
  @Option(
    name: .long,
    help: """
      An inherited descriptor of the iommufd, as `exec 3<>/dev/iommufd-sim` makes it. Without it \
      the node is opened, and closed at the end with all that was made.
      """)
  var fd: Int32?

  @Option(
    name: .long, help: "The node to open without --fd (default: the first there is of \(nodes)).")
  var node: String?

  @Flag(name: .long, help: "Print one JSON object a line.")
  var json = false

  private static var nodes: String { Session.defaultNodes.joined(separator: ", ") }
}

extension Command {
  func run() throws {
    let session = Session(descriptor: options.fd, node: options.node)
    do throws(Failure) {
      try perform(in: session).print(asJSON: options.json)
    } catch {
      error.print(asJSON: options.json)
      throw ExitCode(error.exitCode)
    }
  }
}

/// Why a command did not succeed.
enum Failure: Error {
  /// A system call answered an errno; `fields` are outputs that the call wrote all the same.
  case call(String, Errno, fields: [Report.Field] = [])
  /// The command or script line makes no sense.
  case usage(String)
  /// A script's expectation was not met.
  case expectation(String)

  var exitCode: Int32 {
    switch self {
    case .call, .expectation: 1
    case .usage: EX_USAGE
    }
  }

  var description: String {
    switch self {
    case .call(let call, let errno, _): "\(call): \(errno.symbol) (\(errno))"
    case .usage(let text), .expectation(let text): text
    }
  }

  func print(asJSON json: Bool) {
    guard json, case .call(let call, let errno, let fields) = self else {
      _ = try? FileDescriptor.standardError.writeAll("iommufdctl: \(description)\n".utf8)
      return
    }
    let error = Report.Field.fields(
      "error", [.text("name", errno.symbol), .decimal("number", errno.rawValue)])
    Report(call, fields: [error] + fields).print(asJSON: true)
  }
}
