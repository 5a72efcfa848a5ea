// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Host
internal import SystemPackage

/// A system call of a thread that waits for the supervisor's answer.
struct TrappedCall {
  let systemCall: SystemCall
  let architecture: Architecture
  /// The thread that made the call.
  let task: HostTask
  /// The number that the kernel gave this notification (struct seccomp_notif.id).
  let id: UInt64
  private let data: seccomp_data

  /// - Returns: `nil` for a call that is not in the table, which the filter never reports.
  init?(_ notification: seccomp_notif) {
    data = notification.data
    guard
      let architecture = Architecture(auditValue: data.arch),
      let systemCall = Trap.systemCall(
        number: UInt32(bitPattern: data.nr), on: architecture)
    else { return nil }
    self.architecture = architecture
    self.systemCall = systemCall
    task = HostTask(id: Int32(bitPattern: notification.pid))
    id = notification.id
  }

  /// The argument with an index from 0 to 5.
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

  /// The address of the instruction that the thread executes after the call.
  var returnAddress: UInt64 { data.instruction_pointer }

  /// An argument of type int or unsigned int.
  func word(_ index: Int) -> UInt32 { UInt32(truncatingIfNeeded: self[index]) }
  func descriptor(_ index: Int) -> Int32 { Int32(bitPattern: word(index)) }

  /// The file offset that starts at argument `index`. A 32-bit ABI passes it as two arguments.
  func offset(_ index: Int) -> UInt64 {
    architecture == .i386
      ? UInt64(word(index)) | UInt64(word(index + 1)) << 32 : self[index]
  }
}

/// The answer to a trapped call.
enum Answer {
  /// The call returns this value.
  case value(Int64)
  case failure(Errno)
  /// The kernel executes the call as if it had not been trapped (SECCOMP_USER_NOTIF_FLAG_CONTINUE).
  case native
  /// The call was answered already.
  case sent
}
