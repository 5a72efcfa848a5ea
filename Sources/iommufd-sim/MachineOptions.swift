// What a machine is made of, for all subcommands that have one.

internal import ArgumentParser
internal import Machine

struct MachineOptions: ParsableArguments {
  @Flag(help: "Have the mock devices and test operations of the kernel's own iommufd tests.")
  var selftest = false

  func machine() throws -> Machine {
    var description = MachineDescription.builtIn
    description.hasSelftest = selftest
    return try Machine(description)
  }
}
