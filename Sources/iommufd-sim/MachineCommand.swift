// `iommufd-sim machine`: see docs/machine-description.5.md.

internal import ArgumentParser
internal import Machine

struct MachineCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "machine",
    abstract: "Check and show descriptions of machines, for `--machine` of run and serve.",
    discussion: """
      A description says in YAML which IOMMUs there are, what they can do, and which devices are \
      behind them.

      Examples:
        iommufd-sim machine show > my-machine.yaml    # the built-in one, to start from
        iommufd-sim machine keys                      # what can be said
        iommufd-sim machine check my-machine.yaml
        iommufd-sim run --machine my-machine.yaml -- ./my-vfio-program
      """,
    subcommands: [Check.self, Show.self, Keys.self])

  struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Say what is wrong with a description, with line and column.",
      discussion: "The machine is built, so what passes can be run. The exit status is 0 or 1.")

    @Argument(help: "The description; - for standard input.")
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
      abstract:
        "Print a description with every key, those included that it leaves to their default.")

    @Argument(help: "The description; - for standard input. Without one: the built-in machine.")
    var file: String?

    func run() throws {
      print(
        try MachineFile.write(file.map(MachineText.description) ?? .builtIn), terminator: "")
    }
  }

  struct Keys: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "List every key of a description, its values and its meaning.")

    func run() {
      for (subject, keys) in MachineFile.keys {
        print("\(subject):")
        for key in keys { print("  \(key.name): \(key.values)\n      \(key.summary)") }
      }
    }
  }
}
