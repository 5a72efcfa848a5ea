// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import Glibc
internal import Host
internal import SystemPackage

/// One message of a CUSE connection (libfuse: fuse_req_t). It is answered exactly once, from any
/// thread, and must not be used afterwards.
struct CUSERequest: @unchecked Sendable {
  private let raw: fuse_req_t

  init(_ raw: fuse_req_t) {
    self.raw = raw
  }

  /// The session whose connection the message came on.
  var session: CUSESession {
    // SAFETY: `CUSESession.connect` passes itself as user data. A session is never freed while its
    // threads run.
    Unmanaged<CUSESession>.fromOpaque(fuse_req_userdata(raw)).takeUnretainedValue()
  }

  /// The thread that made the call. 0 when it is outside this server's pid namespace.
  var taskID: Int32 { fuse_req_ctx(raw).pointee.pid }

  /// Whether the flags of an ioctl say that the caller is a 32-bit program.
  static func isCompat(_ flags: UInt32) -> Bool { flags & UInt32(FUSE_IOCTL_COMPAT) != 0 }

  /// Answers any call with an error.
  func fail(_ error: Errno) {
    fuse_reply_err(raw, error.rawValue)
  }

  /// Answers a release.
  func succeed() {
    fuse_reply_err(raw, 0)
  }

  /// Answers an open(2).
  /// - Parameter handle: the number by which later messages name the open file.
  /// - Returns: whether the caller still waited for the answer. When it did not, the kernel sends
  ///   no release for `handle`.
  func reply(opened handle: UInt64) -> Bool {
    var info = fuse_file_info()
    info.fh = handle
    return fuse_reply_open(raw, &info) == 0
  }

  /// Answers a read(2) with the bytes read.
  func reply(read bytes: UnsafeRawBufferPointer) {
    fuse_reply_buf(raw, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count)
  }

  /// Answers a write(2) with the number of bytes written.
  func reply(written count: Int) {
    fuse_reply_write(raw, count)
  }

  /// Answers a poll(2) with POLL… events.
  func reply(events: UInt32) {
    fuse_reply_poll(raw, events)
  }

  /// Answers an ioctl(2) with its result, a value or -errno. The kernel stores `output` in the
  /// range that the last ``retry(reading:writing:)`` named for writing, whatever the result is.
  func reply(ioctl result: Int32, output: [UInt8] = []) {
    output.withUnsafeBytes { bytes in
      _ = fuse_reply_ioctl(raw, result, bytes.isEmpty ? nil : bytes.baseAddress, bytes.count)
    }
  }

  /// Makes the kernel send the ioctl again, with the bytes of `input` and with room for `output`.
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
