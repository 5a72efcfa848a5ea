// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import Glibc
internal import Host
internal import SystemPackage

/// The line of a help text that begins with `USAGE:`. The argument parser does not wrap it.
enum UsageLine {
  /// Returns `text` with its usage lines wrapped at `columns`, between options and arguments.
  static func wrap(in text: String, columns: Int = 80) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      line.lowercased().hasPrefix("usage: ") ? wrap(line, columns: columns) : String(line)
    }.joined(separator: "\n")
  }

  private static func wrap(_ line: Substring, columns: Int) -> String {
    let indentation = String(repeating: " ", count: "USAGE: ".count)
    var lines: [String] = []
    var current = ""
    for part in parts(of: line) {
      if current.isEmpty {
        current = part
      } else if current.count + 1 + part.count <= columns {
        current += " " + part
      } else {
        lines.append(current)
        current = indentation + part
      }
    }
    return (lines + [current]).joined(separator: "\n")
  }

  /// Splits a usage line at blanks, but neither inside brackets nor between an option and its
  /// value.
  private static func parts(of line: Substring) -> [String] {
    var parts: [String] = []
    var depth = 0
    for word in line.split(separator: " ") {
      if let last = parts.last, depth > 0 || (word.hasPrefix("<") && last.hasPrefix("--")) {
        parts[parts.count - 1] = last + " " + word
      } else {
        parts.append(String(word))
      }
      for character in word { depth += character == "[" ? 1 : character == "]" ? -1 : 0 }
    }
    return parts
  }
}

extension Iommufdctl {
  /// Does what the argument parser's `main()` does, except that usage lines are wrapped.
  static func main() {
    do {
      var command = try parseAsRoot(ProgramStart.arguments)
      try command.run()
    } catch {
      let text = UsageLine.wrap(in: fullMessage(for: error))
      let status = exitCode(for: error)
      if !text.isEmpty {
        let stream: FileDescriptor = status.isSuccess ? .standardOutput : .standardError
        _ = try? stream.writeAll("\(text)\n".utf8)
      }
      Glibc.exit(status.rawValue)
    }
  }
}
