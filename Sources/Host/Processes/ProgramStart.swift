// SPDX-License-Identifier: Apache-2.0

internal import CLinux

/// What this process was started with.
package enum ProgramStart {
  /// The arguments of the program, without its name. `CommandLine.arguments` is empty where /proc
  /// is not mounted.
  package static var arguments: [String] {
    (1..<max(1, CLinux_argument_count())).map { String(cString: CLinux_argument($0)) }
  }

  /// Makes this process independent of the limits, the signal dispositions and the closed
  /// descriptors that its parent left to it. To be called before this process opens a file.
  package static func prepare() { CLinux_prepare_process() }
}
