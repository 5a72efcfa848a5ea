// What a machine is made of, for all subcommands that have one.

internal import ArgumentParser
internal import Machine

struct MachineOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "A description of the machine, instead of the built-in one; see `iommufd-sim machine`.",
      valueName: "file"))
  var machine: String?

  @Flag(help: "Have the mock devices and test operations of the kernel's own iommufd tests.")
  var selftest = false

  var description: MachineDescription {
    get throws {
      var description = try machine.map(MachineText.description) ?? .builtIn
      if selftest { description.hasSelftest = true }
      return description
    }
  }
}
