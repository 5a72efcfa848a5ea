// A device whose answers show how the front end delivered the call.

internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// The ioctl requests of the device, which have VFIO's type. Tests/Clients/fronts/launcher/test_requests.h
/// has the same numbers.
enum TestRequest {
  /// Returns the number of this open file, counted from 1.
  static let identify: UInt32 = 0x3bf0
  /// Waits for the given number of microseconds, increments a counter and returns it.
  static let count: UInt32 = 0x3bf1
  /// Reads 48 bytes and stores 16 bytes after them, like IOMMU_IOAS_MAP.
  static let exchange: UInt32 = 0x3bf2
  /// { u32 flags; i32 fd; u32 id }: makes a queue, which is writable when bit 0 of the flags is
  /// set.
  static let makeQueue: UInt32 = 0x3bf3
  /// { u32 id; u32 value }: appends a record to a queue.
  static let push: UInt32 = 0x3bf4
  /// Returns the number of open files that are not released, queues included.
  static let live: UInt32 = 0x3bf5
  /// Returns the number of the open file that the descriptor refers to, 0 for a file of the host,
  /// 0xffff for a queue.
  static let identifyOther: UInt32 = 0x3bf6
  /// Writes one byte to the descriptor.
  static let poke: UInt32 = 0x3bf7
  /// Does nothing.
  static let null: UInt32 = 0x3bf8
  /// Returns the sum of all records written to queues.
  static let written: UInt32 = 0x3bf9
  /// Returns whether a process maps a part of the region.
  static let isMapped: UInt32 = 0x3bfa
  /// Replaces the region by a new one.
  static let renewRegion: UInt32 = 0x3bfb
}

/// Counters of all open files.
final class Totals: Sendable {
  static let shared = Totals()
  let opened = Atomic<Int32>(0)
  let live = Atomic<Int32>(0)
  let count = Atomic<Int32>(0)
  let written = Atomic<Int32>(0)
  let queues = Mutex<[UInt32: TestQueue]>([:])
}

struct TestDevice: CharacterDevice {
  let name: String
  func open(by client: any Client) throws(Errno) -> any OpenFile {
    TestFile(hasRegions: name == "iommu")
  }
}

final class TestFile: OpenFile {
  let hasCompatIoctl = true
  var isVFIODevice: Bool { !hasRegions }
  private let number: Int32
  let hasRegions: Bool
  private let region: Mutex<TestRegion>

  init(hasRegions: Bool) {
    number = Totals.shared.opened.wrappingAdd(1, ordering: .relaxed).newValue
    self.hasRegions = hasRegions
    region = Mutex(TestRegion(holding: UInt32(number)))
    Totals.shared.live.wrappingAdd(1, ordering: .relaxed)
  }

  func ioctl(_ request: UInt32, argument: UInt64, client: any Client) throws(Errno) -> Int32 {
    let totals = Totals.shared
    switch request {
    case TestRequest.identify: return number
    case TestRequest.null: return 0
    case TestRequest.count:
      if argument > 0 { usleep(UInt32(truncatingIfNeeded: argument)) }
      return totals.count.wrappingAdd(1, ordering: .relaxed).newValue
    case TestRequest.exchange:
      let input = try client.load(InlineArray<6, UInt64>.self, at: argument)
      let output: InlineArray<2, UInt64> = [input[0] &+ input[5], 1]
      try client.store(output, at: argument &+ 48)
      return 0
    case TestRequest.makeQueue: return try makeQueue(argument, client)
    case TestRequest.push:
      let id = try client.load(UInt32.self, at: argument)
      let value = try client.load(UInt32.self, at: argument &+ 4)
      guard let queue = totals.queues.withLock({ $0[id] }) else { throw .noSuchFileOrDirectory }
      queue.push(value)
      return 0
    case TestRequest.live: return totals.live.load(ordering: .relaxed)
    case TestRequest.written: return totals.written.load(ordering: .relaxed)
    case TestRequest.identifyOther:
      let other = try client.openFile(Int32(truncatingIfNeeded: argument))
      return (other as? TestFile)?.number ?? (other is TestQueue ? 0xffff : 0)
    case TestRequest.poke:
      let copy = try client.duplicateDescriptor(Int32(truncatingIfNeeded: argument))
      return Int32(Glibc.write(copy.rawValue, "!", 1))
    case TestRequest.isMapped: return region.withLock { $0.isMapped } ? 1 : 0
    case TestRequest.renewRegion:
      region.withLock { $0 = TestRegion(holding: UInt32(number)) }
      return 0
    default: throw .inappropriateIOCTLForDevice
    }
  }

  /// Refuses a request with the errors of iommufd.
  func region(for request: MappingRequest) throws(Errno) -> any MappableRegion {
    guard hasRegions else { throw .operationNotSupportedByDevice }
    guard request.isShared else { throw .invalidArgument }
    if request.isExecutable { throw .notPermitted }
    let region = region.withLock { $0 }
    guard request.offset == region.offset, request.length == region.length else {
      throw .noSuchAddressOrDevice
    }
    return region
  }

  private func makeQueue(_ argument: UInt64, _ client: any Client) throws(Errno) -> Int32 {
    let queue = TestQueue(isWritable: try client.load(UInt32.self, at: argument) & 1 != 0)
    do {
      try client.install(queue) { (number) throws(Errno) in
        try client.store(number, at: argument &+ 4)
        try client.store(queue.id, at: argument &+ 8)
      }
    } catch {
      queue.release()
      throw error
    }
    return 0
  }

  var hasRead: Bool { true }
  var hasWrite: Bool { true }

  /// Each group of 8 bytes holds its own offset.
  func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard destination.count % 8 == 0 else { throw .invalidArgument }
    for position in stride(from: 0, to: destination.count, by: 8) {
      try destination.memory.store(
        offset &+ UInt64(position), at: destination.address &+ UInt64(position))
    }
    return destination.count
  }

  /// The 8 bytes written must hold their own offset.
  func write(from source: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard source.count == 8 else { throw .invalidArgument }
    guard try source.memory.load(UInt64.self, at: source.address) == offset else {
      throw .ioError
    }
    return 8
  }

  func release() { Totals.shared.live.wrappingSubtract(1, ordering: .relaxed) }
}

/// A region of two pages that begin with the number of the open file.
final class TestRegion: MappableRegion {
  let offset: UInt64 = 0x10000
  let length: UInt64 = 0x2000
  let contents: [UInt8]
  private let file = Mutex<FileIdentity?>(nil)

  init(holding number: UInt32) {
    contents = withUnsafeBytes(of: number) { Array($0) }
  }

  var isMapped: Bool {
    file.withLock { $0 }?.isMapped(offset..<offset + length) ?? false
  }

  func prepareMapping(in file: FileIdentity, fill: () throws(Errno) -> SharedRegisters?)
    throws(Errno)
  {
    try self.file.withLock { known throws(Errno) in
      if known == nil { _ = try fill() }
      known = file
    }
  }
}

/// A queue of records of four bytes.
final class TestQueue: OpenFile {
  private struct State {
    var records: [UInt32] = []
    var wake: (@Sendable () -> Void)?
  }

  private static let ids = Atomic<UInt32>(0)
  let id = TestQueue.ids.wrappingAdd(1, ordering: .relaxed).newValue
  private let isWritable: Bool
  private let state = Mutex(State())

  init(isWritable: Bool) {
    self.isWritable = isWritable
    Totals.shared.live.wrappingAdd(1, ordering: .relaxed)
    Totals.shared.queues.withLock { $0[id] = self }
  }

  func push(_ value: UInt32) {
    let wake = state.withLock { state in
      state.records.append(value)
      return state.wake
    }
    wake?()
  }

  var hasRead: Bool { true }
  var hasWrite: Bool { true }

  func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard destination.count % 4 == 0 else { throw .illegalSeek }
    let wanted = destination.count / 4
    let records = state.withLock { state in
      let taken = Array(state.records.prefix(wanted))
      state.records.removeFirst(taken.count)
      return taken
    }
    for (index, record) in records.enumerated() {
      try destination.memory.store(record, at: destination.address &+ UInt64(index * 4))
    }
    return records.count * 4
  }

  func write(from source: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard isWritable else { throw .invalidArgument }
    guard source.count == 4 else { throw .illegalSeek }
    let value = try source.memory.load(Int32.self, at: source.address)
    Totals.shared.written.wrappingAdd(value, ordering: .relaxed)
    return 4
  }

  func readiness() -> Readiness {
    let isReadable = state.withLock { !$0.records.isEmpty }
    var readiness: Readiness = isWritable ? .writable : []
    if isReadable { readiness.insert(.readable) }
    return readiness
  }

  func setReadinessObserver(_ wake: (@Sendable () -> Void)?) {
    state.withLock { $0.wake = wake }
  }

  func release() {
    Totals.shared.live.wrappingSubtract(1, ordering: .relaxed)
    _ = Totals.shared.queues.withLock { $0.removeValue(forKey: id) }
  }
}
