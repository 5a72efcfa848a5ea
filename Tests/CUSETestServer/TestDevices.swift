// Devices for the clients in Tests/Clients/fronts/cuse. They use everything that the CUSE front end
// implements: argument structs, pointers, descriptors in both directions, file offsets, queues.

internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// The numbers of open files and queues, by which a client checks that nothing is left open.
final class OpenCounts: Sendable {
  let files = Atomic<UInt32>(0)
  let queues = Atomic<UInt64>(0)
  let lastOpen = Atomic<UInt32>(0)
}

/// A device with the ioctls of Tests/Clients/cuse/commands.h.
struct CommandDevice: CharacterDevice {
  let name: String
  let counts: OpenCounts

  func open(by client: any Client) throws(Errno) -> any OpenFile {
    counts.files.add(1, ordering: .relaxed)
    return CommandFile(counts)
  }
}

/// struct cuse_test of Tests/Clients/cuse/commands.h.
struct CommandArgument: BitwiseCopyable {
  var size: UInt32 = 0
  var value: UInt32 = 0
  var pointer: UInt64 = 0
  var length: UInt64 = 0
}

/// The ioctls of a ``CommandDevice``: CUSE_TEST_….
private enum Command: UInt32 {
  case echo = 0x3bd0
  case openID = 0x3bd1
  case identify = 0x3bd2
  case queue = 0x3bd3
  case push = 0x3bd4
  case sleep = 0x3bd5
  case sum = 0x3bd6
  case fill = 0x3bd7
  case keep = 0x3bd8
  case `return` = 0x3bd9
  case alive = 0x3bda
  case count = 0x3bdb
}

/// One open of a ``CommandDevice``.
final class CommandFile: OpenFile {
  let hasCompatIoctl = true
  private struct State {
    var queue: QueueFile?
    var kept: [OwnedDescriptor] = []
    var count: UInt32 = 0
  }

  private let id: UInt32
  private let counts: OpenCounts
  private let state = Mutex(State())

  init(_ counts: OpenCounts) {
    self.counts = counts
    id = counts.lastOpen.add(1, ordering: .relaxed).newValue
  }

  func ioctl(_ request: UInt32, argument: UInt64, client: any Client) throws(Errno) -> Int32 {
    guard let kind = Command(rawValue: request) else { throw .inappropriateIOCTLForDevice }
    let size = try client.load(UInt32.self, at: argument)
    guard size >= MemoryLayout<CommandArgument>.size else { throw .invalidArgument }
    var command = try client.load(CommandArgument.self, at: argument)
    switch kind {
    case .echo: command.value &+= 1
    case .openID: command.value = id
    case .identify: command.value = try identify(command.value, client)
    case .queue: return try makeQueue(command, argument, client)
    case .push: try push(command.value)
    case .sleep: usleep(min(command.value, 10_000) * 1_000)
    case .sum: command.value = try sum(command, client)
    case .fill: try fill(command, client)
    case .keep: try keep(command.value, client)
    case .return: return Int32(bitPattern: command.value & 0x7fff_ffff)
    case .alive:
      command.value = counts.files.load(ordering: .relaxed)
      command.length = counts.queues.load(ordering: .relaxed)
    case .count:
      command.value = state.withLock { state in
        state.count += 1
        return state.count
      }
    }
    try client.store(command, at: argument)
    return 0
  }

  private func identify(_ number: UInt32, _ client: any Client) throws(Errno) -> UInt32 {
    let file = try client.openFile(Int32(bitPattern: number))
    if file is QueueFile { return UInt32.max }
    guard let file = file as? CommandFile else { throw .operationNotSupportedByDevice }
    return file.id
  }

  private func makeQueue(
    _ command: CommandArgument, _ argument: UInt64, _ client: any Client
  ) throws(Errno) -> Int32 {
    let queue = QueueFile(counts)
    try client.install(queue) { (number) throws(Errno) in
      var answer = command
      answer.value = UInt32(number)
      try client.store(answer, at: argument)
    }
    state.withLock { $0.queue = queue }
    return 0
  }

  private func push(_ count: UInt32) throws(Errno) {
    guard let queue = state.withLock({ $0.queue }) else { throw .noSuchFileOrDirectory }
    queue.push(Int(min(count, 1_000_000)))
  }

  private func sum(_ command: CommandArgument, _ client: any Client) throws(Errno) -> UInt32 {
    let bytes: [UInt8] = try client.loadArray(
      Int(min(command.length, 1 << 26)), at: command.pointer)
    var sum: UInt32 = 0
    for byte in bytes { sum &+= UInt32(byte) }
    return sum
  }

  private func fill(_ command: CommandArgument, _ client: any Client) throws(Errno) {
    let bytes = [UInt8](
      repeating: UInt8(truncatingIfNeeded: command.value),
      count: Int(min(command.length, 1 << 26)))
    try client.storeArray(bytes, at: command.pointer)
  }

  private func keep(_ number: UInt32, _ client: any Client) throws(Errno) {
    let copy = try client.duplicateDescriptor(Int32(bitPattern: number))
    state.withLock { $0.kept.append(copy) }
  }

  func release() {
    counts.files.subtract(1, ordering: .relaxed)
    state.withLock { $0 = State() }
  }
}

/// A queue of records of 16 bytes, which is read as iommufd's queues are.
final class QueueFile: OpenFile {
  private struct State {
    var records = 0
    var next: UInt64 = 0
    var wake: (@Sendable () -> Void)?
  }

  private let counts: OpenCounts
  private let state = Mutex(State())

  init(_ counts: OpenCounts) {
    self.counts = counts
    // Subtracted in deinit and not in release(), which is not called for a queue that was not
    // installed.
    counts.queues.add(1, ordering: .relaxed)
  }

  deinit {
    counts.queues.subtract(1, ordering: .relaxed)
  }

  func push(_ count: Int) {
    let wake = state.withLock { state in
      state.records += count
      return state.wake
    }
    wake?()
  }

  var hasRead: Bool { true }
  var hasWrite: Bool { true }

  func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard destination.count % 16 == 0 else { throw .invalidArgument }
    let (first, count) = state.withLock { state in
      let count = min(destination.count / 16, state.records)
      state.records -= count
      defer { state.next += UInt64(count) }
      return (state.next, count)
    }
    for index in 0..<count {
      let record = (first + UInt64(index), UInt64.max)
      try destination.memory.store(record.0, at: destination.address + UInt64(index * 16))
      try destination.memory.store(record.1, at: destination.address + UInt64(index * 16 + 8))
    }
    return count * 16
  }

  func readiness() -> Readiness {
    state.withLock { $0.records > 0 } ? .readable : []
  }

  func setReadinessObserver(_ wake: (@Sendable () -> Void)?) {
    state.withLock { $0.wake = wake }
  }

  func release() {}
}

/// A device whose bytes depend on their offsets: a read shows, and a write checks, that the right
/// offset arrives.
struct MemoryDevice: CharacterDevice {
  let name: String
  func open(by client: any Client) throws(Errno) -> any OpenFile { MemoryFile() }
}

final class MemoryFile: OpenFile {
  private static func bytes(_ count: Int, at offset: UInt64) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      var index = 0
      while index < count {
        buffer[index] = UInt8(
          truncatingIfNeeded: ((offset &+ UInt64(index)) &* 0x9e37_79b9_7f4a_7c15) >> 56)
        index += 1
      }
      initialized = count
    }
  }

  var hasRead: Bool { true }
  var hasWrite: Bool { true }

  func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    try destination.memory.storeArray(
      Self.bytes(destination.count, at: offset), at: destination.address)
    return destination.count
  }

  func write(from source: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    let bytes: [UInt8] = try source.memory.loadArray(source.count, at: source.address)
    guard bytes == Self.bytes(source.count, at: offset) else { throw .ioError }
    return source.count
  }

  func release() {}
}
