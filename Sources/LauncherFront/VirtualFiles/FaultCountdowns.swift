// /proc/<pid>/task/<tid>/fail-nth: a number that belongs to a task, counts its fallible steps down and
// makes the last one fail (Linux: fs/proc/base.c, proc_fail_nth_write()). Here it counts the steps
// of calls that we answer, and nothing else of the task.

internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

final class FaultCountdowns: Sendable {
  private struct Countdown {
    /// When the task began: an id alone may be another task's by now.
    let began: UInt64
    var left: UInt32
  }

  private let armed = Mutex<[Int32: Countdown]>([:])
  /// What an unarmed program pays for.
  private let isAnyArmed = Atomic(false)
  /// Look for tasks that ended armed when there are this many.
  private static let sweepLimit = 1024

  /// Steps until one fails; 0: none will.
  func left(of task: HostTask) -> UInt32 {
    guard isAnyArmed.load(ordering: .acquiring),
      let countdown = armed.withLock({ $0[task.id] }), countdown.began == task.beginning
    else { return 0 }
    return countdown.left
  }

  /// - Throws: `.noSuchProcess`.
  func set(_ count: UInt32, of task: HostTask) throws(Errno) {
    guard let began = task.beginning else { throw .noSuchProcess }
    armed.withLock { armed in
      armed[task.id] = count == 0 ? nil : Countdown(began: began, left: count)
      if armed.count > Self.sweepLimit {
        armed = armed.filter { $0.value.began == HostTask(id: $0.key).beginning }
      }
      isAnyArmed.store(!armed.isEmpty, ordering: .releasing)
    }
  }

  /// Runs a call of `task` with its countdown.
  func inject<Result>(
    into task: HostTask, _ call: () throws(Errno) -> Result
  ) throws(Errno) -> Result {
    let before = left(of: task)
    if before == 0 { return try call() }
    var left = before
    defer {
      // A task that was killed meanwhile needs no number.
      if left != before { try? set(left, of: task) }
    }
    return try FaultInjection.counting(down: &left, call)
  }
}

/// An open fail-nth file.
final class FailNthFile: OpenFile {
  private let task: HostTask
  private let countdowns: FaultCountdowns
  /// The kernel's buffer: a sign, 32 digits, a newline, less the final zero.
  private static let longestNumber = 34

  init(of task: HostTask, in countdowns: FaultCountdowns) {
    self.task = task
    self.countdowns = countdowns
  }

  var hasRead: Bool { true }
  var hasWrite: Bool { true }

  func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard task.beginning != nil else { throw .noSuchProcess }
    let text = Array("\(countdowns.left(of: task))\n".utf8)
    guard offset < text.count else { return 0 }
    let rest = text.dropFirst(Int(offset)).prefix(destination.count)
    try destination.memory.storeArray(rest, at: destination.address)
    return rest.count
  }

  func write(from source: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    let text: [UInt8] = try source.memory.loadArray(
      min(source.count, Self.longestNumber), at: source.address)
    try countdowns.set(try Self.number(text.prefix { $0 != 0 }), of: task)
    return source.count
  }

  func release() {}

  /// kstrtouint() with base 0: decimal, or 0x… or 0… for other bases; one newline may end it.
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
  /// When the task began, in the host's ticks; nil when it has ended. Field 22 of /proc/<tid>/stat, the
  /// second being a name in parentheses with any characters.
  fileprivate var beginning: UInt64? {
    guard let stat = try? ProcFile.read("/proc/\(id)/stat"), let name = stat.lastIndex(of: ")")
    else { return nil }
    let fields = stat[name...].split(separator: " ")
    return fields.count > 20 ? UInt64(fields[20]) : nil
  }
}
