// Script mode: the commands, one a line, in one session.
//
//   # a comment
//   COMMAND ARGUMENTS             run it; an error ends the script
//   $name = COMMAND ARGUMENTS     the same, and keep its report: $name is the first value in it,
//                                 $name.field the value of that name
//   fails ERRNO COMMAND …         it must fail with that errno
//   equal VALUE VALUE             the two must be the same
//   echo WORDS                    print them
//
// Words are separated by blanks; `'…'` and `"…"` keep blanks in a word.

internal import ArgumentParser
internal import Host

struct Script: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "script", abstract: "Run commands from standard input, in one session.",
    discussion: """
      Each line is a command of this program without the program's name. `$name = COMMAND` keeps \
      the result for later lines as $name, or $name.field for another value of its report. \
      `fails ERRNO COMMAND` expects a failure, `equal A B` compares, `echo` prints, # begins a \
      comment. The script ends at the first line that does not do as it says, with status 1.
      """)
  @OptionGroup var options: CommonOptions
  @Flag(name: .shortAndLong, help: "Print only `echo` and errors.") var quiet = false

  func run() throws {
    var runner = ScriptRunner(
      session: Session(descriptor: options.fd, node: options.node), quiet: quiet,
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

struct ScriptRunner {
  let session: Session
  let quiet: Bool
  let json: Bool
  private var results: [Substring: Report] = [:]

  init(session: Session, quiet: Bool, json: Bool) {
    self.session = session
    self.quiet = quiet
    self.json = json
  }

  mutating func run(_ line: String) throws(Failure) {
    var words = try Self.words(of: line)
    var target: Substring?
    if words.count > 2, words[0].hasPrefix("$"), words[1] == "=" {
      target = words[0].dropFirst()
      words.removeFirst(2)
    }
    let resolved = try words.map { word throws(Failure) in try value(of: word) }
    guard let first = resolved.first else { return }
    let rest = Array(resolved.dropFirst())
    switch first {
    case "echo":
      print(rest.joined(separator: " "))
    case "equal":
      guard rest.count == 2 else { throw .usage("equal compares two values, not \(rest.count)") }
      guard rest[0] == rest[1] else { throw .expectation("\(rest[0]) is not \(rest[1])") }
    case "fails":
      try expectFailure(rest)
    default:
      let report = try perform(resolved)
      if let target { results[target] = report }
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
    guard let command = parsed as? any Command else {
      throw .usage("\(words[0]) cannot stand in a script")
    }
    return try command.perform(in: session)
  }

  private func expectFailure(_ words: [String]) throws(Failure) {
    guard let expected = words.first, words.count > 1 else {
      throw .usage("fails needs an errno and a command")
    }
    do throws(Failure) {
      _ = try perform(Array(words.dropFirst()))
    } catch {
      guard case .call(let call, let errno, _) = error else { throw error }
      guard errno.symbol == expected else {
        throw .expectation("\(call) failed with \(errno.symbol), not \(expected)")
      }
      if !quiet { print("\(call)  \(errno.symbol), as expected") }
      return
    }
    throw .expectation("\(words[1]) succeeded, \(expected) was expected")
  }

  /// The word itself, or what a `$name` or `$name.field` stands for.
  private func value(of word: Substring) throws(Failure) -> String {
    guard word.hasPrefix("$") else { return String(word) }
    let parts = word.dropFirst().split(separator: ".", maxSplits: 1)
    guard let name = parts.first, let report = results[name] else {
      throw .usage("\(word): no earlier line has named a result so")
    }
    guard let value = report.value(parts.count > 1 ? parts[1] : nil) else {
      throw .usage("the report of \(report.call) has no such value: \(word)")
    }
    return value.text
  }

  /// Splits a line at blanks; quotes keep blanks, # ends the line.
  private static func words(of line: String) throws(Failure) -> [Substring] {
    var words: [Substring] = []
    var rest = Substring(line).drop(while: \.isWhitespace)
    while let first = rest.first, first != "#" {
      if first == "\"" || first == "'" {
        rest.removeFirst()
        guard let end = rest.firstIndex(of: first) else { throw .usage("a quote is not closed") }
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
