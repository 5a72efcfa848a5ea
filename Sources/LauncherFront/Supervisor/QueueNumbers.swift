// SPDX-License-Identifier: Apache-2.0

internal import HeapModule
internal import Host
internal import Synchronization
internal import SystemPackage

/// The descriptor numbers of queues and virtual files: which one a process gets next, and which are
/// reserved until they are installed.
///
/// A process gets the lowest free number from ``firstQueueDescriptor`` on. Only the host knows
/// whether a number is free. So that an answer takes constant time however many numbers are in use,
/// a search first tries the numbers of queues that were closed, then continues where the last
/// search ended. When it finds none, it starts again from the first number.
final class QueueNumbers: Sendable {
  private struct Numbers {
    /// Numbers below `next` that may be free.
    var released = Heap<Int32>()
    /// The lowest number that was not tried yet.
    var next = firstQueueDescriptor
    /// Numbers that a call will install.
    var reserved: Set<Int32> = []
  }

  private let processes = Mutex<[Int32: Numbers]>([:])
  /// The number of processes at which those without reservation are forgotten.
  private static let processLimit = 4096

  /// Reserves a number. The caller ends the reservation with ``cancel(_:of:isFree:)``.
  /// - Throws: `.tooManyOpenFiles` when there is none below the process's RLIMIT_NOFILE.
  func reserve(in task: HostTask, of process: Int32) throws(Errno) -> Int32 {
    let end = Int32(clamping: try HostTask(id: process).descriptorLimit())
    var isSecondSearch = false
    while true {
      while let number = takeCandidate(of: process, below: end) {
        if isFree(number, in: task) { return number }
        // The number is in use, and its close lists it again.
        cancel(number, of: process, isFree: false)
      }
      // A program can also close a number that no queue was installed at.
      if isSecondSearch { throw .tooManyOpenFiles }
      isSecondSearch = true
      processes.withLock { $0[process]?.next = firstQueueDescriptor }
    }
  }

  /// Reserves the next number to try.
  private func takeCandidate(of process: Int32, below end: Int32) -> Int32? {
    processes.withLock { processes in
      if processes[process] == nil, processes.count >= Self.processLimit {
        processes = processes.filter { !$0.value.reserved.isEmpty }
      }
      var numbers = processes.removeValue(forKey: process) ?? Numbers()
      defer { processes[process] = numbers }
      while let number = numbers.released.popMin() {
        if number < min(end, numbers.next), numbers.reserved.insert(number).inserted {
          return number
        }
      }
      while numbers.next < end {
        defer { numbers.next += 1 }
        if numbers.reserved.insert(numbers.next).inserted { return numbers.next }
      }
      return nil
    }
  }

  /// Ends the reservation of `number`.
  /// - Parameter isFree: whether the process has no descriptor with the number.
  func cancel(_ number: Int32, of process: Int32, isFree: Bool) {
    processes.withLock { processes in
      processes[process]?.reserved.remove(number)
      if isFree { processes[process]?.released.insert(number) }
    }
  }

  /// Lists `number` as free, because the queue that was installed at it is closed.
  func release(_ number: Int32, of process: Int32) {
    processes.withLock { $0[process]?.released.insert(number) }
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
