// SPDX-License-Identifier: Apache-2.0

/// A contradiction in a machine description. The text names the unit or the device and the rule.
package struct MachineError: Error, CustomStringConvertible {
  /// The unit or the device, by its index in the description's list.
  package enum Subject: Hashable, Sendable {
    case unit(Int)
    case device(Int)
  }

  package let description: String
  /// The unit or the device that the error is about. `nil` for an error about the machine.
  package let subject: Subject?

  package init(_ description: String, of subject: Subject? = nil) {
    self.description = description
    self.subject = subject
  }
}
