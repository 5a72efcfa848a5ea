// SPDX-License-Identifier: Apache-2.0

internal import ArgumentParser
internal import Logging

extension Logger.Level {
  static let names = "trace, debug, info, notice, warning or error"

  /// Returns the level that a `--log-level` option names.
  @Sendable static func named(_ name: String) throws -> Self {
    guard let level = Self(rawValue: name) else {
      throw ValidationError("'\(name)' is not a log level; the levels are \(names).")
    }
    return level
  }
}

extension Logger {
  /// Returns a logger that writes messages of `level` and above to standard error.
  static func standardError(from level: Level) -> Logger {
    var logger = Logger(label: "iommufd-sim") { StreamLogHandler.standardError(label: $0) }
    logger.logLevel = level
    return logger
  }
}
