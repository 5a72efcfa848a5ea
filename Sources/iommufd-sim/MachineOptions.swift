// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import IOMMU
internal import IOMMUFD
internal import Machine

/// The options that select the simulated machine, for `run` and `serve`.
struct MachineOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Simulate the machine that a file describes; see `iommufd-sim help machine`.",
      valueName: "file"))
  var machine: String?

  @Flag(
    help: """
      Answer IOMMU_TEST_CMD, with the mock devices that the kernel's own iommufd tests use.
      """)
  var selftest = false

  @Option(
    name: .customLong("extension"),
    help: ArgumentHelp(
      "Answer an interface that no kernel has: \(Self.extensionNames). May be repeated.",
      valueName: "name"),
    transform: Self.extensionName)
  var extensions: [Extensions.Name] = []

  @Option(
    help: ArgumentHelp(
      "The most PASIDs that one process can have, with --extension vfio-sva (default: "
        + "\(Extensions.defaultPASIDQuota)).", valueName: "count"))
  var pasidQuota: Int?

  /// How memory of clients is pinned.
  enum Pinning: String, ExpressibleByArgument, CaseIterable {
    case exact
    case inPlace = "in-place"
  }

  @Option(
    help: ArgumentHelp(
      """
      How memory of clients is pinned: exact, by the kernel through io_uring where that is possible, \
      or in-place, at its address in the process or its offset in the file (default: exact).
      """, valueName: "how"))
  var pinning = Pinning.exact

  var limits: PhysicalMemory.Limits {
    var limits = PhysicalMemory.Limits()
    limits.pinning = pinning == .exact ? .exact : .inPlace
    return limits
  }

  func validate() throws {
    let range = 0...Extensions.largestPASIDQuota
    if let pasidQuota, !range.contains(pasidQuota) {
      throw ValidationError(
        "--pasid-quota must be between 0 and \(range.upperBound), not \(pasidQuota).")
    }
  }

  private static var extensionNames: String {
    Extensions.Name.allCases.map(\.rawValue).joined(separator: ", ")
  }

  @Sendable private static func extensionName(_ text: String) throws -> Extensions.Name {
    guard let name = Extensions.Name(rawValue: text) else {
      throw ValidationError("'\(text)' is not an extension; the extensions are \(extensionNames).")
    }
    return name
  }

  var description: MachineDescription {
    get throws {
      var description = try machine.map(MachineText.description) ?? .builtIn
      if selftest { description.hasSelftest = true }
      description.extensions.enabled.formUnion(extensions)
      if let pasidQuota { description.extensions.pasidQuota = pasidQuota }
      return description
    }
  }
}
