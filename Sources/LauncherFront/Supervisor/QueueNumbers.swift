// SPDX-License-Identifier: Apache-2.0

internal import Host
internal import Synchronization
internal import SystemPackage

/// Descriptor numbers that are reserved for queues and virtual files until these are installed in
/// their programs.
final class QueueNumbers: Sendable {
  private struct Reservation: Hashable {
    let process: Int32
    let number: Int32
  }

  private let reservations = Mutex<Set<Reservation>>([])

  /// Reserves the lowest number from ``firstQueueDescriptor`` on that is neither in use nor
  /// reserved.
  /// - Throws: `.tooManyOpenFiles` when there is none below the process's RLIMIT_NOFILE.
  func reserve(in task: HostTask, of process: Int32) throws(Errno) -> Int32 {
    let end = Int32(clamping: try HostTask(id: process).descriptorLimit())
    var number = firstQueueDescriptor
    while number < end {
      if isFree(number, in: task) {
        let reservation = Reservation(process: process, number: number)
        if reservations.withLock({ $0.insert(reservation).inserted }) { return number }
      }
      number += 1
    }
    throw .tooManyOpenFiles
  }

  /// Ends the reservation of `number`.
  func cancel(_ number: Int32, of process: Int32) {
    _ = reservations.withLock { $0.remove(Reservation(process: process, number: number)) }
  }

  private func isFree(_ number: Int32, in task: HostTask) -> Bool {
    do {
      _ = try StandInIdentity(of: number, in: task)
      return false
    } catch {
      return error == .badFileDescriptor
    }
  }
}
