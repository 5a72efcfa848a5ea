// SPDX-License-Identifier: Apache-2.0

internal import SystemPackage
internal import UAPI

/// An ioctl of the catalogue together with the function that executes it: a row of the dispatcher's
/// table.
struct IoctlHandler: Sendable {
  let number: IoctlNumber
  /// Bytes of today's struct.
  let size: Int
  /// Bytes of the shortest struct that is accepted.
  let minimumSize: Int
  /// Executes the ioctl with its struct, which is as long as ``size``, and returns the ioctl's
  /// result.
  let execute: @Sendable (UnsafeRawBufferPointer, Invocation) throws(Errno) -> Int32

  /// - Parameter handler: its `Arguments` must be the struct of `ioctl`. (A C struct with a union
  ///   is not BitwiseCopyable in Swift, so the type is not constrained.)
  init<Arguments: Sendable>(
    _ ioctl: Ioctl,
    _ handler: @escaping @Sendable (inout UserCommand<Arguments>) throws(Errno) -> Void
  ) {
    guard let structure = ioctl.structure, structure.is(Arguments.self) else {
      preconditionFailure("the handler of \(ioctl) takes \(Arguments.self)")
    }
    number = ioctl.number
    size = structure.size
    minimumSize = structure.minimumSize
    execute = { (bytes, invocation) throws(Errno) in
      var command = UserCommand(
        arguments: bytes.load(as: Arguments.self), invocation: invocation)
      try handler(&command)
      return command.result
    }
  }
}
