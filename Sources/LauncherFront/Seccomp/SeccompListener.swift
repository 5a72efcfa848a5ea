// SPDX-License-Identifier: Apache-2.0

// The listener descriptor of the filter: the supervisor receives notifications of trapped calls
// from it and sends the answers (seccomp_unotify(2)).

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage

struct SeccompListener: Sendable {
  private let descriptor: OwnedDescriptor

  init(_ descriptor: OwnedDescriptor) {
    self.descriptor = descriptor
    // Linux before 6.6 does not know the flag. Without it calls take longer.
    _ = CLinux_seccomp_set_synchronous_wakeup(descriptor.rawValue)
  }

  enum Event {
    case call(TrappedCall)
    /// There is no call to answer: its thread was killed before the supervisor received it, or the
    /// call is not in the table and the kernel executes it.
    case noCall
    /// No process uses the filter any more.
    case filterUnused
  }

  /// Waits for the next event.
  func receive() -> Event {
    var notification = seccomp_notif()
    while true {
      let result = CLinux_seccomp_receive(descriptor.rawValue, &notification)
      if result == 0 { break }
      if result == -EINTR { continue }
      return isFilterUnused ? .filterUnused : .noCall
    }
    if let call = TrappedCall(notification) { return .call(call) }
    send(.native, to: notification.id)
    return .noCall
  }

  /// The kernel reports POLLHUP when the last process with the filter has ended.
  private var isFilterUnused: Bool {
    var event = pollfd(fd: descriptor.rawValue, events: 0, revents: 0)
    return poll(&event, 1, 0) == 1 && event.revents & Int16(POLLHUP) != 0
  }

  /// Whether the thread still waits for the answer to call `id`. While it does, no other thread has
  /// its thread ID.
  func isWaiting(_ id: UInt64) -> Bool {
    CLinux_seccomp_id_valid(descriptor.rawValue, id) == 0
  }

  /// Answers call `id`. When the thread was killed meanwhile, the kernel's ENOENT is ignored.
  func send(_ answer: Answer, to id: UInt64) {
    var response = seccomp_notif_resp(id: id, val: 0, error: 0, flags: 0)
    switch answer {
    case .value(let value): response.val = value
    case .failure(let error): response.error = -error.rawValue
    case .native: response.flags = UInt32(SECCOMP_USER_NOTIF_FLAG_CONTINUE)
    case .sent: return
    }
    _ = CLinux_seccomp_send(descriptor.rawValue, &response)
  }

  /// Installs a copy of `source` in the thread that waits in call `id`.
  /// - Returns: the number of the new descriptor, the lowest one that is free.
  func install(
    _ source: OwnedDescriptor, for id: UInt64, closeOnExec: Bool
  ) throws(Errno) -> Int32 {
    try add(
      seccomp_notif_addfd(
        id: id, flags: 0, srcfd: UInt32(source.rawValue), newfd: 0,
        newfd_flags: closeOnExec ? UInt32(O_CLOEXEC) : 0))
  }

  /// Installs a copy of `source` as descriptor `number` in the thread that waits in call `id`.
  func install(
    _ source: OwnedDescriptor, as number: Int32, for id: UInt64, closeOnExec: Bool
  ) throws(Errno) {
    _ = try add(
      seccomp_notif_addfd(
        id: id, flags: Self.setNumberFlag, srcfd: UInt32(source.rawValue),
        newfd: UInt32(number), newfd_flags: closeOnExec ? UInt32(O_CLOEXEC) : 0))
  }

  /// SECCOMP_ADDFD_FLAG_SETFD
  private static let setNumberFlag: UInt32 = 1 << 0

  private func add(_ request: seccomp_notif_addfd) throws(Errno) -> Int32 {
    var request = request
    let result = CLinux_seccomp_add_descriptor(descriptor.rawValue, &request)
    guard result >= 0 else { throw Errno(rawValue: -result) }
    return result
  }
}
