internal import CFuse3
internal import Glibc
internal import Host
internal import SystemPackage

/// One message of a CUSE connection. It is answered exactly once, from any thread, and must not be
/// used afterwards.
struct Request: @unchecked Sendable {
  private let raw: fuse_req_t

  init(_ raw: fuse_req_t) {
    self.raw = raw
  }

  /// The session that `cuse_lowlevel_new` was given for the message's connection.
  var session: Session {
    // SAFETY: `Session.connect` passes itself and is never freed while its threads run.
    Unmanaged<Session>.fromOpaque(fuse_req_userdata(raw)).takeUnretainedValue()
  }

  /// The thread that sent it; 0 when it is not in this server's pid namespace.
  var taskID: Int32 { fuse_req_ctx(raw).pointee.pid }

  /// The caller ran as a 32-bit program.
  static func isCompat(_ flags: UInt32) -> Bool { flags & UInt32(FUSE_IOCTL_COMPAT) != 0 }

  func fail(_ error: Errno) {
    fuse_reply_err(raw, error.rawValue)
  }

  func succeed() {
    fuse_reply_err(raw, 0)
  }

  /// Answers an open(2) with the number that later messages name the open file by.
  /// - Returns: whether the caller still waited for it; if not, no release will follow.
  func opened(as handle: UInt64) -> Bool {
    var info = fuse_file_info()
    info.fh = handle
    return fuse_reply_open(raw, &info) == 0
  }

  func reply(_ bytes: UnsafeRawBufferPointer) {
    fuse_reply_buf(raw, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count)
  }

  func reply(written count: Int) {
    fuse_reply_write(raw, count)
  }

  func reply(events: UInt32) {
    fuse_reply_poll(raw, events)
  }

  /// Answers an ioctl(2) with its result, a value or -errno. `output` goes to the ranges that the
  /// last ``retry(reading:writing:)`` named, whatever the result.
  func reply(ioctl result: Int32, output: [UInt8] = []) {
    output.withUnsafeBytes { bytes in
      _ = fuse_reply_ioctl(raw, result, bytes.isEmpty ? nil : bytes.baseAddress, bytes.count)
    }
  }

  /// Asks the kernel to send the ioctl again with the bytes of `input`, and with room for `output`.
  func retry(reading input: UserRange, writing output: UserRange?) {
    var input = input.vector
    if var output = output?.vector {
      fuse_reply_ioctl_retry(raw, &input, 1, &output, 1)
    } else {
      fuse_reply_ioctl_retry(raw, &input, 1, nil, 0)
    }
  }
}

/// A range of a client's memory.
struct UserRange: Equatable {
  var address: UInt64
  var count: Int

  fileprivate var vector: iovec {
    iovec(iov_base: UnsafeMutableRawPointer(bitPattern: UInt(address)), iov_len: count)
  }
}
