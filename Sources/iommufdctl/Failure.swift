// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Host
internal import SystemPackage

/// Why a subcommand did not succeed.
enum Failure: Error {
  /// A system call failed with an errno. `fields` are the outputs that the call wrote nevertheless.
  case call(String, Errno, fields: [Report.Field] = [])
  /// The command line or the script line is wrong.
  case usage(String)
  /// What a script line expects did not happen.
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

  /// Prints a failed call as a JSON object on standard output when `json` is set, and everything
  /// else as text on standard error.
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
