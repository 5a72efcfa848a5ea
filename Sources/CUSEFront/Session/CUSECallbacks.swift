// SPDX-License-Identifier: Apache-2.0

// The functions that libfuse calls for each message. They find the session and the open file of the
// message, and call the session.

internal import CFuse3
internal import Glibc
internal import Host
internal import SystemPackage

/// The operations that every connection has.
var cuseOperations: cuse_lowlevel_ops {
  var operations = cuse_lowlevel_ops()
  operations.open = cuseOpen
  operations.read = cuseRead
  operations.write = cuseWrite
  operations.release = cuseRelease
  operations.ioctl = cuseIoctl
  operations.poll = cusePoll
  return operations
}

private func cuseOpen(_ raw: fuse_req_t?, _ info: UnsafeMutablePointer<fuse_file_info>?) {
  guard let raw else { return }
  let request = CUSERequest(raw)
  request.session.open(request)
}

private func cuseRelease(_ raw: fuse_req_t?, _ info: UnsafeMutablePointer<fuse_file_info>?) {
  guard let raw, let info else { return }
  let request = CUSERequest(raw)
  request.session.release(info.pointee.fh, answering: request)
}

private func cuseRead(
  _ raw: fuse_req_t?, _ count: Int, _ offset: off_t,
  _ info: UnsafeMutablePointer<fuse_file_info>?
) {
  guard let raw, let info else { return }
  let request = CUSERequest(raw)
  guard let file = request.session.file(info.pointee.fh) else { return request.fail(.ioError) }
  request.session.read(request, count, after: Int(offset), from: file)
}

private func cuseWrite(
  _ raw: fuse_req_t?, _ data: UnsafePointer<CChar>?, _ count: Int, _ offset: off_t,
  _ info: UnsafeMutablePointer<fuse_file_info>?
) {
  guard let raw, let info else { return }
  let request = CUSERequest(raw)
  guard let file = request.session.file(info.pointee.fh) else { return request.fail(.ioError) }
  request.session.write(
    request, UnsafeRawBufferPointer(start: data, count: count), after: Int(offset), to: file)
}

private func cuseIoctl(
  _ raw: fuse_req_t?, _ command: Int32, _ argument: UnsafeMutableRawPointer?,
  _ info: UnsafeMutablePointer<fuse_file_info>?, _ flags: UInt32,
  _ input: UnsafeRawPointer?, _ inputCount: Int, _ room: Int
) {
  guard let raw, let info else { return }
  let request = CUSERequest(raw)
  guard let file = request.session.file(info.pointee.fh) else { return request.fail(.ioError) }
  request.session.ioctl(
    IoctlExchange(
      request: request, task: request.task, number: UInt32(bitPattern: command),
      argument: UInt64(UInt(bitPattern: argument)), isCompat: CUSERequest.isCompat(flags),
      round: FetchRound(
        received: UnsafeRawBufferPointer(start: input, count: inputCount), room: room)),
    on: file)
}

private func cusePoll(
  _ raw: fuse_req_t?, _ info: UnsafeMutablePointer<fuse_file_info>?, _ handle: OpaquePointer?
) {
  guard let raw, let info else { return }
  let request = CUSERequest(raw)
  guard let file = request.session.file(info.pointee.fh) else {
    if let handle { fuse_pollhandle_destroy(handle) }
    return request.fail(.ioError)
  }
  request.session.poll(request, handle, of: file)
}
