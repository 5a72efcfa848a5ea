// SPDX-License-Identifier: Apache-2.0

// Script mode: subcommands, one per line, in one session.
//
//   # a comment
//   COMMAND ARGUMENTS             execute it; a failure ends the script
//   $name = COMMAND ARGUMENTS     execute it and keep its report: $name is the report's first
//                                 value, $name.field the value of a field
//   fails ERRNO COMMAND …         the command must fail with that errno
//   equal VALUE VALUE             the two values must be equal
//   echo WORDS                    print the words
//
// Blanks separate words; '…' and "…" keep the blanks of a word.

internal import ArgumentParser
internal import Host

struct Script: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "script", abstract: "Execute subcommands from standard input in one session.",
    discussion: """
      Each line is a subcommand without the program's name, or one of these statements:

        $name = SUBCOMMAND       keep the report: $name is its first value,
                                 $name.field the value of another field
        fails ERRNO SUBCOMMAND   the subcommand must fail with that errno
        equal A B                the two words must be equal
        echo WORDS               print the words
        # TEXT                   a comment

      Blanks separate words; quotes keep the blanks of a word. The script ends with status 1 at \
      the first subcommand that fails and at the first expectation that is not met.
      """)
  @OptionGroup var options: CommonOptions
  @Flag(name: .shortAndLong, help: "Print only the output of `echo` and errors.")
  var quiet = false

  func run() throws {
    var runner = ScriptRunner(
      session: ScriptSession(descriptor: options.fd, node: options.node), quiet: quiet,
      json: options.json)
    var number = 0
    while let line = readLine() {
      number += 1
      do throws(Failure) {
        try runner.run(line)
      } catch {
        Failure.usage("line \(number): \(error.description)").print(asJSON: false)
        throw ExitCode(error.exitCode)
      }
    }
  }
}

/// Executes the lines of one script and keeps the reports that lines have named.
struct ScriptRunner {
  let session: ScriptSession
  let quiet: Bool
  let json: Bool
  private var reports: [Substring: Report] = [:]

  init(session: ScriptSession, quiet: Bool, json: Bool) {
    self.session = session
    self.quiet = quiet
    self.json = json
  }

  mutating func run(_ line: String) throws(Failure) {
    var words = try Self.words(of: line)
    var name: Substring?
    if words.count > 2, words[0].hasPrefix("$"), words[1] == "=" {
      name = words[0].dropFirst()
      words.removeFirst(2)
    }
    let resolved = try words.map { word throws(Failure) in try value(of: word) }
    guard let first = resolved.first else { return }
    let rest = Array(resolved.dropFirst())
    switch first {
    case "echo":
      print(rest.joined(separator: " "))
    case "equal":
      guard rest.count == 2 else {
        throw .usage("`equal` compares two values, and the line has \(rest.count)")
      }
      guard rest[0] == rest[1] else { throw .expectation("\(rest[0]) is not equal to \(rest[1])") }
    case "fails":
      try expectFailure(rest)
    default:
      let report = try perform(resolved)
      if let name { reports[name] = report }
      if !quiet { report.print(asJSON: json) }
    }
  }

  private func perform(_ words: [String]) throws(Failure) -> Report {
    let parsed: any ParsableCommand
    do {
      parsed = try Iommufdctl.parseAsRoot(words)
    } catch {
      throw .usage(Iommufdctl.message(for: error))
    }
    guard let command = parsed as? any ScriptableCommand else {
      throw .usage("a script cannot contain `\(words[0])`")
    }
    return try command.perform(in: session)
  }

  private func expectFailure(_ words: [String]) throws(Failure) {
    guard let expected = words.first, words.count > 1 else {
      throw .usage("`fails` is followed by an errno and a subcommand")
    }
    do throws(Failure) {
      _ = try perform(Array(words.dropFirst()))
    } catch {
      guard case .call(let call, let errno, _) = error else { throw error }
      guard errno.symbol == expected else {
        throw .expectation("\(call) failed with \(errno.symbol), not with \(expected)")
      }
      if !quiet { print("\(call)  \(errno.symbol), as expected") }
      return
    }
    throw .expectation("\(words[1]) succeeded; \(expected) was expected")
  }

  /// Returns the word itself, or the value that a `$name` or `$name.field` stands for.
  private func value(of word: Substring) throws(Failure) -> String {
    guard word.hasPrefix("$") else { return String(word) }
    let parts = word.dropFirst().split(separator: ".", maxSplits: 1)
    guard let name = parts.first, let report = reports[name] else {
      throw .usage("\(word) is not defined: no earlier line has a report of that name")
    }
    guard let value = report.value(parts.count > 1 ? parts[1] : nil) else {
      throw .usage("\(word) is not defined: the report of \(report.call) has no such field")
    }
    return value.text
  }

  /// Splits a line at blanks. Quotes keep blanks in a word, and a `#` at the start of a word begins
  /// a comment.
  private static func words(of line: String) throws(Failure) -> [Substring] {
    var words: [Substring] = []
    var rest = Substring(line).drop(while: \.isWhitespace)
    while let first = rest.first, first != "#" {
      if first == "\"" || first == "'" {
        rest.removeFirst()
        guard let end = rest.firstIndex(of: first) else {
          throw .usage("the quote \(first) is not closed")
        }
        words.append(rest[..<end])
        rest = rest[rest.index(after: end)...]
      } else {
        let word = rest.prefix { !$0.isWhitespace }
        words.append(word)
        rest = rest.dropFirst(word.count)
      }
      rest = rest.drop(while: \.isWhitespace)
    }
    return words
  }
}
