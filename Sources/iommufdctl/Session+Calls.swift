// How an ioctl is issued: its struct is filled, the call is made, its outputs become a report.
//
// Every struct of iommufd and of VFIO begins with its own size, so that is set here. A struct that
// points to data, or is followed by some, comes with the bytes.

internal import CLinux
internal import SystemPackage
internal import UAPI

extension Session {
  /// Fills `argument`, issues the ioctl and reports `outputs` of the answered struct.
  /// - Parameter descriptor: the iommufd when nil.
  func call<Argument>(
    _ name: String, _ number: IoctlNumber, _ argument: Argument, on descriptor: Int32? = nil,
    fill: (inout Argument) -> Void = { _ in }, outputs: (Argument) -> [Report.Field] = { _ in [] }
  ) throws(Failure) -> Report {
    var argument = sized(argument)
    fill(&argument)
    try issue(name, number, &argument, on: descriptor)
    return Report(name, fields: outputs(argument))
  }

  /// As ``call(_:_:_:on:fill:outputs:)`` for a struct whose member `pointer` is the address of `data`.
  func call<Argument>(
    _ name: String, _ number: IoctlNumber, _ argument: Argument, data: [UInt8],
    at pointer: WritableKeyPath<Argument, UInt64>,
    fill: (inout Argument) -> Void, outputs: (Argument, [UInt8]) -> [Report.Field] = { _, _ in [] }
  ) throws(Failure) -> Report {
    var argument = sized(argument)
    var data = data
    fill(&argument)
    try issue(name, number, &argument, data: &data, at: pointer)
    return Report(name, fields: outputs(argument, data))
  }

  /// Issues an ioctl whose argument is a plain number, and reports its result, if it has one, as `result`.
  func call(
    _ name: String, _ number: IoctlNumber, value: UInt, on descriptor: Int32? = nil,
    result: String? = nil
  ) throws(Failure) -> Report {
    let answer = try issue(name, number, value, on: descriptor)
    return Report(name, fields: result.map { [.decimal($0, answer)] } ?? [])
  }
}

// MARK: Issuing

extension Session {
  /// `argument`, its first member set to its size in bytes.
  func sized<Argument>(_ argument: Argument) -> Argument {
    var argument = argument
    withUnsafeMutableBytes(of: &argument) {
      $0.storeBytes(of: UInt32($0.count), as: UInt32.self)
    }
    return argument
  }

  func issue<Argument>(
    _ name: String, _ number: IoctlNumber, _ argument: inout Argument, on descriptor: Int32? = nil
  ) throws(Failure) {
    try withUnsafeMutableBytes(of: &argument) { bytes throws(Failure) in
      _ = try issue(name, number, UInt(bitPattern: bytes.baseAddress), on: descriptor)
    }
  }

  func issue<Argument>(
    _ name: String, _ number: IoctlNumber, _ argument: inout Argument, data: inout [UInt8],
    at pointer: WritableKeyPath<Argument, UInt64>
  ) throws(Failure) {
    try withAddress(of: &data) { address throws(Failure) in
      argument[keyPath: pointer] = UInt64(address)
      try issue(name, number, &argument)
    }
  }

  /// For a struct with an array behind it.
  func issue(
    _ name: String, _ number: IoctlNumber, _ bytes: inout [UInt8], on descriptor: Int32? = nil
  ) throws(Failure) {
    try withAddress(of: &bytes) { address throws(Failure) in
      try issue(name, number, address, on: descriptor)
    }
  }

  /// For an argument that is a plain number.
  /// - Returns: the call's result.
  @discardableResult
  func issue(
    _ name: String, _ number: IoctlNumber, _ argument: UInt, on descriptor: Int32? = nil
  ) throws(Failure) -> Int32 {
    let target = if let descriptor { descriptor } else { try iommufdDescriptor() }
    let result = CLinux_ioctl(target, UInt(number.rawValue), UInt64(argument))
    guard result >= 0 else { throw .call(name, Errno(rawValue: -result)) }
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
