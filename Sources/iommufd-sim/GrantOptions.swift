// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import Glibc
internal import Host

/// The option `--grant` of `run` and `serve`.
struct GrantOptions: ParsableArguments {
  @Option(
    name: .customLong("grant"),
    help: ArgumentHelp(
      """
      Let callers with user ID 0 count as having capabilities, separated by commas, that the root \
      user of a container lacks: \(Self.names).
      """,
      valueName: "capabilities"),
    transform: Self.capabilities)
  var grants: Set<Capability> = []

  /// Returns those of `capabilities` that this process does not have. Where it has one, the host's
  /// kernel decides which of its callers have it too.
  static func missing(_ capabilities: Set<Capability>) -> Set<Capability> {
    let own = HostTask(id: getpid())
    return capabilities.filter { !own.isCapable(of: $0) }
  }

  private static var names: String { Capability.allCases.map(\.name).joined(separator: ", ") }

  @Sendable private static func capabilities(_ text: String) throws -> Set<Capability> {
    Set(
      try text.split(separator: ",", omittingEmptySubsequences: false).map { name in
        guard let found = Capability.allCases.first(where: { $0.name == name }) else {
          throw ValidationError(
            "'\(name)' is not a capability that iommufd asks for; these are \(names).")
        }
        return found
      })
  }
}
