// SPDX-License-Identifier: Apache-2.0

// How an ioctl is issued: the caller fills the struct, the call is made, and the outputs in the
// struct become a report.
//
// Every struct of iommufd and of VFIO begins with its own size, which is set here. Some structs
// contain the address of further data, or are followed by data; the caller passes those bytes.

internal import CLinux
internal import SystemPackage
internal import UAPI

extension ScriptSession {
  /// Fills `argument`, issues the ioctl and reports the `outputs` of the struct.
  /// - Parameter descriptor: the file to issue the ioctl on; `nil` is the iommufd.
  func call<Argument>(
    _ ioctl: Ioctl, _ argument: Argument, on descriptor: Int32? = nil,
    fill: (inout Argument) -> Void = { _ in }, outputs: (Argument) -> [Report.Field] = { _ in [] }
  ) throws(Failure) -> Report {
    var argument = sized(argument)
    fill(&argument)
    try issue(ioctl, &argument, on: descriptor)
    return Report(ioctl.name, fields: outputs(argument))
  }

  /// Does the same for a struct whose member `pointer` holds the address of `data`.
  func call<Argument>(
    _ ioctl: Ioctl, _ argument: Argument, data: [UInt8],
    at pointer: WritableKeyPath<Argument, UInt64>,
    fill: (inout Argument) -> Void, outputs: (Argument, [UInt8]) -> [Report.Field] = { _, _ in [] }
  ) throws(Failure) -> Report {
    var argument = sized(argument)
    var data = data
    fill(&argument)
    try issue(ioctl, &argument, data: &data, at: pointer)
    return Report(ioctl.name, fields: outputs(argument, data))
  }

  /// Issues an ioctl whose argument is a number.
  /// - Parameter result: the name under which the return value is reported; `nil` leaves it out.
  func call(
    _ ioctl: Ioctl, value: UInt, on descriptor: Int32? = nil, result: String? = nil
  ) throws(Failure) -> Report {
    let answer = try issue(ioctl, value, on: descriptor)
    return Report(ioctl.name, fields: result.map { [.decimal($0, answer)] } ?? [])
  }
}

// MARK: Issuing

extension ScriptSession {
  /// Returns `argument` with its first member set to its size in bytes.
  func sized<Argument>(_ argument: Argument) -> Argument {
    var argument = argument
    withUnsafeMutableBytes(of: &argument) {
      $0.storeBytes(of: UInt32($0.count), as: UInt32.self)
    }
    return argument
  }

  func issue<Argument>(
    _ ioctl: Ioctl, _ argument: inout Argument, on descriptor: Int32? = nil
  ) throws(Failure) {
    try withUnsafeMutableBytes(of: &argument) { bytes throws(Failure) in
      _ = try issue(ioctl, UInt(bitPattern: bytes.baseAddress), on: descriptor)
    }
  }

  func issue<Argument>(
    _ ioctl: Ioctl, _ argument: inout Argument, data: inout [UInt8],
    at pointer: WritableKeyPath<Argument, UInt64>
  ) throws(Failure) {
    try withAddress(of: &data) { address throws(Failure) in
      argument[keyPath: pointer] = UInt64(address)
      try issue(ioctl, &argument)
    }
  }

  /// Issues an ioctl whose struct is followed by an array; `bytes` is both.
  func issue(
    _ ioctl: Ioctl, _ bytes: inout [UInt8], on descriptor: Int32? = nil
  ) throws(Failure) {
    try withAddress(of: &bytes) { address throws(Failure) in
      try issue(ioctl, address, on: descriptor)
    }
  }

  /// Issues an ioctl with its third argument as it is.
  /// - Returns: the return value of the call.
  @discardableResult
  func issue(
    _ ioctl: Ioctl, _ argument: UInt, on descriptor: Int32? = nil
  ) throws(Failure) -> Int32 {
    let target = if let descriptor { descriptor } else { try iommufdDescriptor() }
    let result = CLinux_ioctl(target, UInt(ioctl.number.rawValue), UInt64(argument))
    guard result >= 0 else { throw .call(ioctl.name, Errno(rawValue: -result)) }
    return result
  }

  private func withAddress(
    of bytes: inout [UInt8], _ body: (UInt) throws(Failure) -> Void
  ) throws(Failure) {
    var failure: Failure?
    bytes.withUnsafeMutableBytes { buffer in
      do throws(Failure) {
        try body(UInt(bitPattern: buffer.baseAddress))
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }
}
