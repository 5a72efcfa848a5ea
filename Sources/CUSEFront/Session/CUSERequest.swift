// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage

/// One message of a CUSE connection (libfuse: fuse_req_t). It is answered exactly once, from any
/// thread.
///
/// A thread that waits for its answer cannot end, even when it is killed (fuse:
/// request_wait_answer()). A watched message is therefore answered early when its caller is being
/// killed (``abandon()``). The device's call goes on, and its answer is dropped.
final class CUSERequest: CallInProgress, @unchecked Sendable {
  // SAFETY: only the thread that ends `State.waiting` uses `raw` afterwards, once. libfuse locks
  // what the other functions use.
  private let raw: fuse_req_t
  private let state = Atomic(State.waiting)
  /// The session whose connection the message came on.
  unowned(unsafe) let session: CUSESession
  /// The thread that made the call. 0 when it is outside this server's pid namespace, and for a
  /// release.
  let taskID: Int32
  /// The user ID that the thread uses for files.
  let userID: UInt32
  /// The client for which the call counts. Set before the message is watched.
  private(set) var client: ClientIdentity?

  init(_ raw: fuse_req_t) {
    self.raw = raw
    session = Self.session(of: raw)
    let context = fuse_req_ctx(raw).pointee
    (taskID, userID) = (context.pid, context.uid)
  }

  static func session(of raw: fuse_req_t) -> CUSESession {
    // SAFETY: `CUSESession.connect` passes itself as user data. A session is never freed while its
    // threads run.
    Unmanaged<CUSESession>.fromOpaque(fuse_req_userdata(raw)).takeUnretainedValue()
  }

  /// The thread that made the call.
  var task: HostTask { HostTask(id: taskID, in: self) }

  /// Whether the flags of an ioctl say that the caller is a 32-bit program.
  static func isCompat(_ flags: UInt32) -> Bool { flags & UInt32(FUSE_IOCTL_COMPAT) != 0 }

  // MARK: Callers that are being killed

  /// Identifies the message until it is answered.
  var key: UInt { UInt(bitPattern: raw) }

  /// Answers the message early when its caller is killed.
  func watch(for client: ClientIdentity) {
    self.client = client
    session.resources.callers.watch(self)
    // libfuse calls the function at once when the caller has been interrupted already.
    fuse_req_interrupt_func(raw, callerInterrupted, nil)
  }

  /// Whether the message was answered early. The thread may have ended since, and another thread
  /// may have its ID.
  var isAbandoned: Bool { state.load(ordering: .acquiring) == State.abandoned }
  var isValid: Bool { !isAbandoned }

  /// Answers for a caller that is being killed.
  /// - Returns: false when the message has been answered already.
  func abandon() -> Bool {
    guard claim(as: State.abandoned) else { return false }
    fuse_reply_err(raw, EINTR)
    return true
  }

  /// - Returns: whether the caller of this function is the one that answers.
  private func claim(as new: UInt8 = State.answered) -> Bool {
    let result = state.compareExchange(
      expected: State.waiting, desired: new, ordering: .acquiringAndReleasing)
    guard result.exchanged else { return false }
    session.resources.callers.unwatch(self)
    return true
  }

  private enum State {
    static let waiting: UInt8 = 0
    static let answered: UInt8 = 1
    static let abandoned: UInt8 = 2
  }

  // MARK: Answers

  /// Answers any call with an error.
  func fail(_ error: Errno) {
    if claim() { fuse_reply_err(raw, error.rawValue) }
  }

  /// Answers a release.
  func succeed() {
    if claim() { fuse_reply_err(raw, 0) }
  }

  /// Answers an open(2).
  /// - Parameter handle: the number by which later messages name the open file.
  /// - Returns: whether the caller still waited for the answer. When it did not, the kernel sends
  ///   no release for `handle`.
  func reply(opened handle: UInt64) -> Bool {
    guard claim() else { return false }
    var info = fuse_file_info()
    info.fh = handle
    return fuse_reply_open(raw, &info) == 0
  }

  /// Answers a read(2) with the bytes read.
  func reply(read bytes: UnsafeRawBufferPointer) {
    guard claim() else { return }
    fuse_reply_buf(raw, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count)
  }

  /// Answers a write(2) with the number of bytes written.
  func reply(written count: Int) {
    if claim() { fuse_reply_write(raw, count) }
  }

  /// Answers a poll(2) with POLL… events.
  func reply(events: UInt32) {
    if claim() { fuse_reply_poll(raw, events) }
  }

  /// Answers an ioctl(2) with its result, a value or -errno. The kernel stores `output` in the
  /// range that the last ``retry(reading:writing:)`` named for writing, whatever the result is.
  /// - Returns: false when the message was answered early.
  @discardableResult
  func reply(ioctl result: Int32, output: [UInt8] = []) -> Bool {
    guard claim() else { return false }
    output.withUnsafeBytes { bytes in
      _ = fuse_reply_ioctl(raw, result, bytes.isEmpty ? nil : bytes.baseAddress, bytes.count)
    }
    return true
  }

  /// Makes the kernel send the ioctl again, with the bytes of `input` and with room for `output`.
  func retry(reading input: UserRange, writing output: UserRange?) {
    guard claim() else { return }
    var input = input.vector
    if var output = output?.vector {
      fuse_reply_ioctl_retry(raw, &input, 1, &output, 1)
    } else {
      fuse_reply_ioctl_retry(raw, &input, 1, nil, 0)
    }
  }
}

/// Called by libfuse when the kernel reports that the caller of a message has got a signal. Takes
/// no lock of libfuse.
private func callerInterrupted(_ raw: fuse_req_t?, _ data: UnsafeMutableRawPointer?) {
  guard let raw else { return }
  CUSERequest.session(of: raw).resources.callers.interrupted(UInt(bitPattern: raw))
}

/// A range of a client's memory.
struct UserRange: Equatable {
  var address: UInt64
  var count: Int

  fileprivate var vector: iovec {
    iovec(iov_base: UnsafeMutableRawPointer(bitPattern: UInt(address)), iov_len: count)
  }
}
