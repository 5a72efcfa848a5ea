// SPDX-License-Identifier: Apache-2.0

// io_submit(2): asynchronous reads, writes and synchronisations of files of this server. The kernel
// performs them by file_operations.read_iter, write_iter and fsync, which neither iommufd's nor
// VFIO's files have (aio_read(), aio_write(), aio_fsync()), so it refuses them with EINVAL.

internal import Host
internal import SystemPackage
internal import UAPI

/// struct iocb, which is the same on all architectures.
private struct AsynchronousRequest: BitwiseCopyable {
  let data: UInt64
  let keyAndFlags: UInt64
  let operation: UInt16
  let priority: Int16
  let descriptor: Int32
  let buffer: UInt64
  let count: UInt64
  let offset: Int64
  let reserved: UInt64
  let flagsAndEvent: UInt64

  /// IOCB_CMD_POLL, which the kernel does on the stand-in.
  var isPoll: Bool { operation == 5 }
}

extension Supervisor {
  /// Refuses a list of requests with one for a file of this server, none of which is then made.
  func submit(_ call: TrappedCall) throws(Errno) -> Answer {
    if files.counts.open == 0 { return .native }
    let client = client(of: call)
    let wordSize = UInt64(call.architecture.wordSize)
    let count = min(Int64(bitPattern: call[1]), Self.mostRequests)
    guard count > 0 else { return .native }
    for index in 0..<UInt64(count) {
      let place = call[2] &+ index &* wordSize
      let address =
        wordSize == 4
        ? (try? client.load(UInt32.self, at: place)).map(UInt64.init)
        : try? client.load(UInt64.self, at: place)
      guard let address, let request = try? client.load(AsynchronousRequest.self, at: address)
      else { return .native }
      if !request.isPoll, let identity = client.identity(of: request.descriptor),
        files.contains(identity)
      {
        throw .invalidArgument
      }
    }
    return .native
  }

  /// The kernel makes no more requests than the context has events, which is seldom more.
  private static let mostRequests: Int64 = 4096
}
