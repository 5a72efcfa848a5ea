// What a machine is made of, for all subcommands that have one.

internal import ArgumentParser
internal import IOMMUFD
internal import Machine

struct MachineOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "A description of the machine, instead of the built-in one; see `iommufd-sim machine`.",
      valueName: "file"))
  var machine: String?

  @Flag(help: "Have the mock devices and test operations of the kernel's own iommufd tests.")
  var selftest = false

  @Option(
    name: .customLong("extension"),
    help: ArgumentHelp(
      "Have what was proposed once and is in no kernel: \(Self.extensionNames). May be repeated.",
      valueName: "name"),
    transform: Self.extensionName)
  var extensions: [Extensions.Name] = []

  @Option(
    help: ArgumentHelp(
      "PASIDs that a process may have at a time, with --extension vfio-sva (default: "
        + "\(Extensions.defaultPASIDQuota)).", valueName: "count"))
  var pasidQuota: Int?

  func validate() throws {
    let range = 0...Extensions.largestPASIDQuota
    if let pasidQuota, !range.contains(pasidQuota) {
      throw ValidationError(
        "--pasid-quota is between 0 and \(range.upperBound), not \(pasidQuota).")
    }
  }

  private static var extensionNames: String {
    Extensions.Name.allCases.map(\.rawValue).joined(separator: ", ")
  }

  @Sendable private static func extensionName(_ text: String) throws -> Extensions.Name {
    guard let name = Extensions.Name(rawValue: text) else {
      throw ValidationError("There is no extension '\(text)', but: \(extensionNames).")
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
