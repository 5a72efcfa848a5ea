// SPDX-License-Identifier: Apache-2.0

// /proc/<pid>/task/<tid>/fail-nth: a counter of a thread that is decremented at each injection
// point and makes the n-th one fail (Linux: fs/proc/base.c, proc_fail_nth_write()). Here only the
// injection points of calls that the supervisor answers count, see FaultInjection.

internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// The fail-nth counters of all threads.
final class FailNthCounters: Sendable {
  private struct Counter {
    /// The start time of the thread. The thread ID alone may belong to another thread by now.
    let startTime: UInt64
    var value: UInt32
  }

  /// The counters that are not 0, by thread ID.
  private let armed = Mutex<[Int32: Counter]>([:])
  /// Whether `armed` has elements. Calls of programs without fault injection test only this.
  private let isAnyArmed = Atomic(false)
  /// The number of counters at which those of threads that have ended are removed.
  private static let sweepThreshold = 1024

  /// The number of the injection point that will fail, counted from 1. 0 when none will.
  func value(of task: HostTask) -> UInt32 {
    guard isAnyArmed.load(ordering: .acquiring),
      let counter = armed.withLock({ $0[task.id] }), counter.startTime == task.startTime
    else { return 0 }
    return counter.value
  }

  /// - Throws: `.noSuchProcess` when the thread has ended.
  func set(_ value: UInt32, of task: HostTask) throws(Errno) {
    guard let startTime = task.startTime else { throw .noSuchProcess }
    armed.withLock { armed in
      armed[task.id] = value == 0 ? nil : Counter(startTime: startTime, value: value)
      if armed.count > Self.sweepThreshold {
        armed = armed.filter { $0.value.startTime == HostTask(id: $0.key).startTime }
      }
      isAnyArmed.store(!armed.isEmpty, ordering: .releasing)
    }
  }

  /// Runs a call of `task` with the injection points counted by the thread's counter.
  func withFaultInjection<Result>(
    for task: HostTask, _ call: () throws(Errno) -> Result
  ) throws(Errno) -> Result {
    let before = value(of: task)
    if before == 0 { return try call() }
    var value = before
    defer {
      // Fails when the thread was killed meanwhile, whose counter does not matter.
      if value != before { try? set(value, of: task) }
    }
    return try FaultInjection.counting(down: &value, call)
  }
}

/// An open fail-nth file.
final class FailNthFile: OpenFile {
  private let task: HostTask
  private let counters: FailNthCounters
  /// The bytes that kstrtouint_from_user() reads at most: a sign, 32 digits of base 2 and a
  /// newline.
  private static let longestNumber = 34

  init(of task: HostTask, in counters: FailNthCounters) {
    self.task = task
    self.counters = counters
  }

  var hasRead: Bool { true }
  var hasWrite: Bool { true }

  func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard task.startTime != nil else { throw .noSuchProcess }
    let text = Array("\(counters.value(of: task))\n".utf8)
    guard offset < text.count else { return 0 }
    let rest = text.dropFirst(Int(offset)).prefix(destination.count)
    try destination.memory.storeArray(rest, at: destination.address)
    return rest.count
  }

  func write(from source: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    let text: [UInt8] = try source.memory.loadArray(
      min(source.count, Self.longestNumber), at: source.address)
    try counters.set(try Self.number(text.prefix { $0 != 0 }), of: task)
    return source.count
  }

  func release() {}

  /// Parses a number as kstrtouint() with base 0 does: decimal, hexadecimal after 0x, or octal
  /// after 0; one newline may follow.
  /// - Throws: `.invalidArgument`, `.outOfRange` (ERANGE).
  static func number(_ text: some Collection<UInt8>) throws(Errno) -> UInt32 {
    var digits = Substring(decoding: text, as: UTF8.self)
    if digits.last == "\n" { digits.removeLast() }
    if digits.first == "+" { digits.removeFirst() }
    var radix = 10
    if digits.lowercased().hasPrefix("0x"), digits.count > 2 {
      radix = 16
      digits = digits.dropFirst(2)
    } else if digits.first == "0" {
      radix = 8
    }
    guard !digits.isEmpty,
      digits.allSatisfy({ $0.isASCII && ($0.hexDigitValue ?? radix) < radix })
    else { throw .invalidArgument }
    guard let value = UInt32(digits, radix: radix) else { throw .outOfRange }
    return value
  }
}

extension HostTask {
  /// The time at which the thread started, in clock ticks of the host. `nil` when the thread has
  /// ended. It is field 22 of /proc/<tid>/stat, of which field 2 is a name in parentheses with any
  /// characters.
  fileprivate var startTime: UInt64? {
    guard let stat = try? ProcFile.read("/proc/\(id)/stat"), let name = stat.lastIndex(of: ")")
    else { return nil }
    let fields = stat[name...].split(separator: " ")
    return fields.count > 20 ? UInt64(fields[20]) : nil
  }
}
