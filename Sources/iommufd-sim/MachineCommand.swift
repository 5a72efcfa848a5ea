// SPDX-License-Identifier: Apache-2.0

// `iommufd-sim machine`: docs/machine-description.5.md has the manual of the descriptions.

internal import ArgumentParser
internal import Machine

struct MachineCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "machine",
    abstract: "Check and show machine descriptions.",
    discussion: """
      A machine description is a YAML file. It lists the IOMMUs of a machine with their \
      capabilities, and the devices behind them. `run` and `serve` read it with --machine.

      To make one, start from the built-in machine, and look up the keys:

        iommufd-sim machine show > my-machine.yaml
        iommufd-sim machine keys
        iommufd-sim machine check my-machine.yaml
        iommufd-sim run --machine my-machine.yaml -- ./my-vfio-program
      """,
    subcommands: [Check.self, Show.self, Keys.self])

  struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Check a machine description.",
      discussion: """
        Reports the first error with its line and column, and exits with status 1. A description \
        without errors describes a machine that `run` and `serve` can build.
        """)

    @Argument(help: "The machine description; - for standard input.")
    var file: String

    func run() throws {
      let description = try MachineText.description(in: file)
      _ = try Machine(description)
      print(
        "\(file): \(Self.count(description.units.count, "unit")), "
          + Self.count(description.devices.count, "device"))
    }

    private static func count(_ number: Int, _ noun: String) -> String {
      "\(number) \(noun)\(number == 1 ? "" : "s")"
    }
  }

  struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Print a machine description in full.",
      discussion: """
        Keys that the description leaves out are printed with their default values.
        """)

    @Argument(
      help: """
        The machine description; - for standard input. Without it the built-in machine is printed.
        """)
    var file: String?

    func run() throws {
      print(
        try MachineFile.write(file.map(MachineText.description) ?? .builtIn), terminator: "")
    }
  }

  struct Keys: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "List the keys of a machine description with their values and meanings.")

    func run() {
      for (subject, keys) in MachineFile.keys {
        print("\(subject):")
        for key in keys { print("  \(key.name): \(key.values)\n      \(key.summary)") }
      }
    }
  }
}
