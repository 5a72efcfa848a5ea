// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Testing
import UAPI

@testable import iommufdctl

@Suite("Help texts of iommufdctl") struct HelpTests {
  private static let commands: [any ParsableCommand.Type] =
    ioasCommands + pageTableCommands + virtualCommands + containerCommands + deviceCommands
    + simulatorCommands + localCommands

  private static func examples(of command: any ParsableCommand.Type) -> [[String]] {
    command.configuration.discussion
      .replacing(#/\\\n\s*/#, with: "")
      .split(separator: "\n")
      .map { $0.split(separator: " ").map(String.init) }
      .filter { $0.first == "iommufdctl" }
  }

  @Test("Every example is a command line that the program accepts", arguments: commands.indices)
  func examplesParse(_ index: Int) throws {
    let command = Self.commands[index]
    let examples = Self.examples(of: command)
    #expect(!examples.isEmpty, "\(command) has no example")
    for example in examples {
      let parsed = try Iommufdctl.parseAsRoot(Array(example.dropFirst()))
      #expect(type(of: parsed) == command, "\(example)")
    }
  }

  @Test("The abstract of an ioctl's subcommand begins with the C name of the ioctl")
  func abstractsNameTheIoctl() {
    let ioctls = Self.commands.compactMap { $0 as? any IoctlCommand.Type }
    #expect(ioctls.count > 35)
    for command in ioctls {
      #expect(command.configuration.abstract.hasPrefix("\(command.ioctl.name): "), "\(command)")
    }
  }

  @Test("No line has more than 80 columns", arguments: commands.indices)
  func width(_ index: Int) {
    let help = Iommufdctl.helpMessage(for: Self.commands[index], columns: 80)
    for line in UsageLine.wrap(in: help).split(separator: "\n") {
      #expect(line.count <= 80, "\(line)")
    }
    // A longer line of an example would be broken in the middle.
    for line in Self.commands[index].configuration.discussion.split(separator: "\n")
    where line.hasPrefix("  ") {
      #expect(line.count <= 80, "\(line)")
    }
  }

  @Test("A usage line is wrapped between options, and an option stays beside its value")
  func usageLines() {
    let usage = """
      USAGE: iommufdctl x [--fd <fd>] --ioas <ioas> --length <length> <id>
      [--fd <fd>] --ioas <ioas>
      """
    #expect(
      UsageLine.wrap(in: usage, columns: 32) == """
        USAGE: iommufdctl x [--fd <fd>]
               --ioas <ioas>
               --length <length> <id>
        [--fd <fd>] --ioas <ioas>
        """)
  }
}
