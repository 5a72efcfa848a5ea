// The supervisor's end of the filter: calls come out, answers go in.

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage

/// A system call of a thread that waits for our answer.
struct TrappedCall {
  let operation: Operation
  let architecture: Architecture
  let task: HostTask
  /// The kernel's cookie for this wait.
  let id: UInt64
  private let data: seccomp_data

  /// Nil for a call that is not in the table, which the filter never reports.
  init?(_ notification: seccomp_notif) {
    data = notification.data
    guard
      let architecture = Architecture(auditValue: data.arch),
      let operation = Trap.operation(
        number: UInt32(bitPattern: data.nr), on: architecture)
    else { return nil }
    self.architecture = architecture
    self.operation = operation
    task = HostTask(id: Int32(bitPattern: notification.pid))
    id = notification.id
  }

  subscript(_ index: Int) -> UInt64 {
    let arguments = data.args
    return switch index {
    case 0: arguments.0
    case 1: arguments.1
    case 2: arguments.2
    case 3: arguments.3
    case 4: arguments.4
    default: arguments.5
    }
  }

  /// An argument of type int or unsigned int.
  func word(_ index: Int) -> UInt32 { UInt32(truncatingIfNeeded: self[index]) }
  func descriptor(_ index: Int) -> Int32 { Int32(bitPattern: word(index)) }

  /// The file offset that starts at argument `index`.
  func offset(_ index: Int) -> UInt64 {
    architecture == .i386
      ? UInt64(word(index)) | UInt64(word(index + 1)) << 32 : self[index]
  }
}

/// How a trapped call goes on.
enum Answer {
  /// The call returns this.
  case value(Int64)
  case failure(Errno)
  /// The kernel executes the call as if it had not been trapped.
  case native
}

struct Listener: Sendable {
  private let descriptor: OwnedDescriptor

  init(_ descriptor: OwnedDescriptor) {
    self.descriptor = descriptor
    // Before Linux 6.6 the flag is unknown; everything works without it, slower.
    _ = CLinux_seccomp_set_synchronous_wakeup(descriptor.rawValue)
  }

  enum Reception {
    case call(TrappedCall)
    /// The thread was killed before its call could be taken.
    case gone
    /// No process is left under the filter.
    case ended
  }

  /// Waits for the next call.
  func receive() -> Reception {
    var notification = seccomp_notif()
    while true {
      let result = CLinux_seccomp_receive(descriptor.rawValue, &notification)
      if result == 0 { break }
      if result == -EINTR { continue }
      return hasEnded ? .ended : .gone
    }
    if let call = TrappedCall(notification) { return .call(call) }
    send(.native, to: notification.id)
    return .gone
  }

  /// The last process under the filter is gone.
  private var hasEnded: Bool {
    var event = pollfd(fd: descriptor.rawValue, events: 0, revents: 0)
    return poll(&event, 1, 0) == 1 && event.revents & Int16(POLLHUP) != 0
  }

  /// Whether the thread still waits for our answer, so that its id names no other thread.
  func isWaiting(_ id: UInt64) -> Bool {
    CLinux_seccomp_id_valid(descriptor.rawValue, id) == 0
  }

  /// A thread that was killed meanwhile needs no answer; the kernel's ENOENT is dropped.
  func send(_ answer: Answer, to id: UInt64) {
    var response = seccomp_notif_resp(id: id, val: 0, error: 0, flags: 0)
    switch answer {
    case .value(let value): response.val = value
    case .failure(let error): response.error = -error.rawValue
    case .native: response.flags = UInt32(SECCOMP_USER_NOTIF_FLAG_CONTINUE)
    }
    _ = CLinux_seccomp_send(descriptor.rawValue, &response)
  }

  /// Gives the waiting thread a descriptor.
  /// - Returns: its number.
  func install(
    _ source: OwnedDescriptor, for id: UInt64, closeOnExec: Bool
  ) throws(Errno) -> Int32 {
    try add(
      seccomp_notif_addfd(
        id: id, flags: 0, srcfd: UInt32(source.rawValue), newfd: 0,
        newfd_flags: closeOnExec ? UInt32(O_CLOEXEC) : 0))
  }

  /// Gives the waiting thread a descriptor of this number.
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
