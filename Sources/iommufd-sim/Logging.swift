internal import ArgumentParser
internal import Logging

extension Logger.Level {
  static let names = "trace, debug, info, notice, warning or error"

  /// The value of a `--log-level`.
  @Sendable static func named(_ name: String) throws -> Self {
    guard let level = Self(rawValue: name) else {
      throw ValidationError("There is no log level named '\(name)': \(names).")
    }
    return level
  }
}

extension Logger {
  /// Messages from `level` on, on standard error.
  static func standardError(from level: Level) -> Logger {
    var logger = Logger(label: "iommufd-sim") { StreamLogHandler.standardError(label: $0) }
    logger.logLevel = level
    return logger
  }
}
