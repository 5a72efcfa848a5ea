// SPDX-License-Identifier: Apache-2.0

package import UAPI

/// One ioctl(2) as a line of a trace shows it: the struct as the caller passed it, and the fields
/// that the call changed.
///
/// The trace reads the struct itself, once before and once after the call.
package struct IoctlTrace {
  private let request: UInt32
  private let argument: UInt64
  private let memory: any UserMemory
  /// `nil` for a request that is not in the catalogue.
  private let ioctl: Ioctl?
  private let before: IoctlSnapshot?

  /// Reads the struct. To be called before the device runs the ioctl.
  /// - Parameters:
  ///   - ioctls: the ioctls of the open file, whose kind decides what a request number means;
  ///     `nil` when the file is not of this server.
  ///   - memory: the caller's memory. Reads of the trace must not count as accesses of the call.
  package init(
    _ request: UInt32, argument: UInt64, from ioctls: IoctlTable?, in memory: any UserMemory
  ) {
    (self.request, self.argument, self.memory) = (request, argument, memory)
    ioctl = ioctls?[IoctlNumber(rawValue: request)]
    before = ioctl?.snapshot(at: argument, in: memory)
  }

  /// The request and its argument: by name and with fields when both are known, otherwise in
  /// hexadecimal.
  package var arguments: String {
    let name = ioctl?.name ?? Self.hexadecimal(UInt64(request))
    return "\(name), \(before?.text ?? Self.hexadecimal(argument))"
  }

  /// Reads the struct again and returns the fields that have another value now, as " => {…}". Empty
  /// when no field changed. To be called before the caller runs on.
  package func changes() -> String {
    guard let before, let after = ioctl?.snapshot(at: argument, in: memory) else { return "" }
    return after.changes(since: before)
  }

  private static func hexadecimal(_ value: UInt64) -> String {
    "0x" + String(value, radix: 16)
  }
}
