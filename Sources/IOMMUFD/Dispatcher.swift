// SPDX-License-Identifier: Apache-2.0

// The dispatcher finds the handler of an ioctl number and copies the ioctl's struct in (iommufd:
// iommufd_fops_ioctl()).
//
// All checks of the argument that are the same for every command are here, in the kernel's order:
//   1. A number outside the table is an ioctl of VFIO's container, which has its own checks.
//   2. The first u32, the size that the caller gives the struct, is read (EFAULT).
//   3. The whole number must be that of the handler, with type and direction (ENOTTY).
//   4. The size must be at least the minimum size in the catalogue (EINVAL).
//   5. The struct is copied. A shorter struct is followed by zeros; the surplus of a longer struct
//      must be zero (E2BIG).
// So a struct can grow in a later version of the uAPI without a change of code here.

internal import SystemPackage
internal import UAPI

/// The ioctl table of /dev/iommu.
struct Dispatcher: Sendable {
  /// The handlers by the low byte of their numbers, from `firstNumber` on. `nil` for a number that
  /// has no command.
  private let rows: [IoctlHandler?]
  /// Commands of uapi/iommufd_sim.h. They match by the whole number; any other number with the same
  /// low byte is a container ioctl.
  private let simulatorHandlers: [IoctlHandler]

  private static let firstNumber = Int(Ioctl.destroy.number.nr)

  init(_ handlers: [IoctlHandler], simulatorHandlers: [IoctlHandler] = Self.simulatorHandlers) {
    let last = handlers.map { Int($0.number.nr) }.max() ?? Self.firstNumber
    var rows = [IoctlHandler?](repeating: nil, count: last - Self.firstNumber + 1)
    for handler in handlers {
      rows[Int(handler.number.nr) - Self.firstNumber] = handler
    }
    self.rows = rows
    self.simulatorHandlers = simulatorHandlers
  }

  func call(
    _ request: IoctlNumber, argument: UInt64, client: any Client, on context: Context
  ) throws(Errno) -> Int32 {
    if let handler = simulatorHandlers.first(where: { $0.number == request }) {
      return try execute(handler, argument: argument, client: client, on: context)
    }
    let index = Int(request.nr) - Self.firstNumber
    guard rows.indices.contains(index) else {
      return try ContainerCommands(context: context, client: client).call(request, argument)
    }
    guard let handler = rows[index], handler.number == request else {
      _ = try client.load(UInt32.self, at: argument)
      throw .inappropriateIOCTLForDevice
    }
    return try execute(handler, argument: argument, client: client, on: context)
  }

  private func execute(
    _ handler: IoctlHandler, argument: UInt64, client: any Client, on context: Context
  ) throws(Errno) -> Int32 {
    var result: Result<Int32, Errno> = .failure(.invalidArgument)
    withUnsafeTemporaryAllocation(byteCount: handler.size, alignment: 8) { buffer in
      do throws(Errno) {
        let userSize = try copyIn(handler, from: argument, client: client, into: buffer)
        let invocation = Invocation(
          context: context, client: client, address: argument, userSize: userSize)
        result = .success(try handler.execute(UnsafeRawBufferPointer(buffer), invocation))
      } catch {
        result = .failure(error)
      }
    }
    return try result.get()
  }

  /// Copies the struct at `argument` into `buffer` and returns the size that the caller gives it.
  /// Each copy is a system call of the front end, so a struct of today's size, the usual case, is
  /// copied with one. When that copy fails or the size differs, the kernel's steps follow one by
  /// one.
  private func copyIn(
    _ handler: IoctlHandler, from argument: UInt64, client: any Client,
    into buffer: UnsafeMutableRawBufferPointer
  ) throws(Errno) -> Int {
    do throws(Errno) {
      try client.copyIn(from: argument, into: buffer)
      if Int(buffer.loadUnaligned(as: UInt32.self)) == handler.size { return handler.size }
    } catch {
      guard error == .badAddress else { throw error }
    }
    let userSize = Int(try client.load(UInt32.self, at: argument))
    guard userSize >= handler.minimumSize else { throw .invalidArgument }
    try client.copyStruct(from: argument, userSize: userSize, into: buffer)
    return userSize
  }
}
