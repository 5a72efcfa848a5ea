// From an ioctl number to the command's code (iommufd: iommufd_fops_ioctl()).
//
// All policing of the argument is here, so that no command repeats it, in the kernel's order:
//   1. a number outside the table is VFIO's container interface, which has its own rules;
//   2. the first u32, the caller's size of the struct, is read (EFAULT);
//   3. the whole number must match the row, type and direction included (ENOTTY);
//   4. the struct must reach the last member that the first version of the command had (EINVAL);
//   5. it is copied in, zero-extended; a longer one must end in zeros (E2BIG).
// Growing a command is then a matter of data: a longer struct and the same row.

internal import SystemPackage
internal import UAPI

struct Dispatcher: Sendable {
  /// By the low byte of the number, from `firstNumber` on. A gap is a number without a command.
  private let rows: [IoctlHandler?]
  /// Commands of uapi/iommufd_sim.h. They match by the whole number; any other number with the same low
  /// byte is a container ioctl.
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

  /// Every copy is a system call for a front end, so the usual case, a struct of today's size, is
  /// tried with one. Where that fails or the size differs, the kernel's steps follow one by one.
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
