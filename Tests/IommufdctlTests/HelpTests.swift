import ArgumentParser
import Testing

@testable import iommufdctl

/// The examples in the help texts.
@Suite struct HelpTests {
  private static let commands: [any ParsableCommand.Type] =
    ioasCommands + pageTableCommands + virtualCommands + containerCommands + deviceCommands
    + simulatorCommands

  private static func examples(of command: any ParsableCommand.Type) -> [[String]] {
    command.configuration.discussion
      .replacing(#/\\\n\s*/#, with: "")
      .split(separator: "\n")
      .map { $0.split(separator: " ").map(String.init) }
      .filter { $0.first == "iommufdctl" }
  }

  @Test("the examples of the help are valid command lines", arguments: commands.indices)
  func examplesParse(_ index: Int) throws {
    let command = Self.commands[index]
    let examples = Self.examples(of: command)
    #expect(!examples.isEmpty, "\(command) has no example")
    for example in examples {
      let parsed = try Iommufdctl.parseAsRoot(Array(example.dropFirst()))
      #expect(type(of: parsed) == command, "\(example)")
    }
  }
}
