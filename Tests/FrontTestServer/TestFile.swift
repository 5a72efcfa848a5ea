// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// One open of a ``TestDevice``.
final class TestFile: OpenFile {
  private struct State {
    var region: TestRegion
    /// Copies of descriptors that clients have passed.
    var kept: [OwnedDescriptor] = []
    /// How often ``TestRequest/count`` was called.
    var count: UInt32 = 0
  }

  private let id: UInt32
  private let kind: TestDevice.Kind
  private let state: Mutex<State>

  init(_ kind: TestDevice.Kind) {
    self.kind = kind
    id = Totals.shared.lastID.wrappingAdd(1, ordering: .relaxed).newValue
    state = Mutex(State(region: TestRegion(holding: id)))
    Totals.shared.files.wrappingAdd(1, ordering: .relaxed)
  }

  var hasCompatIoctl: Bool { true }
  var isVFIODevice: Bool { kind == .offsets }
  var hasRegions: Bool { kind == .main }
  var hasRead: Bool { kind == .offsets }
  var hasWrite: Bool { kind == .offsets }

  func release() {
    Totals.shared.files.wrappingSubtract(1, ordering: .relaxed)
    state.withLock { $0.kept = [] }
  }

  // MARK: ioctl

  func ioctl(_ request: UInt32, argument: UInt64, client: any Client) throws(Errno) -> Int32 {
    guard let request = TestRequest(rawValue: request) else { throw .inappropriateIOCTLForDevice }
    if request == .null { return 0 }
    if request == .exchange {
      let input = try client.load(InlineArray<6, UInt64>.self, at: argument)
      let output: InlineArray<2, UInt64> = [input[0] &+ input[5], 1]
      try client.store(output, at: argument &+ 48)
      return 0
    }
    // The first access is the size, as in the kernel's drivers: the CUSE front end depends on it
    // for clients whose memory it may not access.
    let size = try client.load(UInt32.self, at: argument)
    guard size >= MemoryLayout<TestArgument>.size else { throw .invalidArgument }
    var command = try client.load(TestArgument.self, at: argument)
    if request == .makeQueue { return try makeQueue(command, argument, client) }
    if request == .return { return Int32(bitPattern: command.value & 0x7fff_ffff) }
    try perform(request, &command, client)
    try client.store(command, at: argument)
    return 0
  }

  /// Performs a request whose answer is in the argument struct.
  private func perform(
    _ request: TestRequest, _ command: inout TestArgument, _ client: any Client
  ) throws(Errno) {
    let totals = Totals.shared
    switch request {
    case .echo: command.value &+= 1
    case .openID: command.value = id
    case .identify: command.value = try identify(command.value, client)
    case .push:
      let queue = totals.queues.withLock { [id = command.value] in $0[id] }
      guard let queue else { throw .noSuchFileOrDirectory }
      queue.push(Int(min(command.length, 1_000_000)), of: command.pointer)
    case .sleep: usleep(min(command.value, 10_000) * 1_000)
    case .sum: command.value = try sum(command, client)
    case .fill: try fill(command, client)
    case .keep:
      let copy = try client.duplicateDescriptor(Int32(bitPattern: command.value))
      state.withLock { $0.kept.append(copy) }
    case .countOpenFiles:
      command.value = totals.files.load(ordering: .relaxed)
      command.length = UInt64(totals.openQueues.load(ordering: .relaxed))
    case .count:
      if command.value > 0 { usleep(command.value) }
      command.value = state.withLock { state in
        state.count += 1
        return state.count
      }
    case .poke:
      let copy = try client.duplicateDescriptor(Int32(bitPattern: command.value))
      command.value = Glibc.write(copy.rawValue, "!", 1) == 1 ? 1 : 0
    case .written: command.value = totals.written.load(ordering: .relaxed)
    case .isMapped: command.value = state.withLock { $0.region }.isMapped ? 1 : 0
    case .renewRegion: state.withLock { $0.region = TestRegion(holding: id) }
    case .makeQueue, .return, .exchange, .null: throw .inappropriateIOCTLForDevice
    }
  }

  /// - Throws: `.operationNotSupportedByDevice` (ENODEV) for a file of another server.
  private func identify(_ number: UInt32, _ client: any Client) throws(Errno) -> UInt32 {
    let file = try client.openFile(Int32(bitPattern: number))
    if file is TestQueue { return UInt32.max }
    guard let file = file as? TestFile else { throw .operationNotSupportedByDevice }
    return file.id
  }

  private func makeQueue(
    _ command: TestArgument, _ argument: UInt64, _ client: any Client
  ) throws(Errno) -> Int32 {
    let queue = TestQueue(isWritable: command.value & 1 != 0)
    do throws(Errno) {
      try client.install(queue) { (number) throws(Errno) in
        var answer = command
        answer.value = UInt32(number)
        answer.length = UInt64(queue.id)
        try client.store(answer, at: argument)
      }
    } catch {
      queue.release()  // A front end releases only a queue that it has installed.
      throw error
    }
    return 0
  }

  private func sum(_ command: TestArgument, _ client: any Client) throws(Errno) -> UInt32 {
    let bytes: [UInt8] = try client.loadArray(
      Int(min(command.length, 1 << 26)), at: command.pointer)
    var sum: UInt32 = 0
    for byte in bytes { sum &+= UInt32(byte) }
    return sum
  }

  private func fill(_ command: TestArgument, _ client: any Client) throws(Errno) {
    let bytes = [UInt8](
      repeating: UInt8(truncatingIfNeeded: command.value),
      count: Int(min(command.length, 1 << 26)))
    try client.storeArray(bytes, at: command.pointer)
  }

  // MARK: Reads, writes and mappings

  func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard kind == .offsets, !OffsetBytes.isRefused(offset) else { throw .invalidArgument }
    try destination.memory.storeArray(
      OffsetBytes.bytes(destination.count, at: offset), at: destination.address)
    return destination.count
  }

  func write(from source: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard kind == .offsets, !OffsetBytes.isRefused(offset) else { throw .invalidArgument }
    let bytes: [UInt8] = try source.memory.loadArray(source.count, at: source.address)
    guard bytes == OffsetBytes.bytes(source.count, at: offset) else { throw .ioError }
    return source.count
  }

  /// Refuses a request with the errors of iommufd.
  func region(for request: MappingRequest) throws(Errno) -> any MappableRegion {
    guard kind == .main else { throw .operationNotSupportedByDevice }
    guard request.isShared else { throw .invalidArgument }
    if request.isExecutable { throw .notPermitted }
    let region = state.withLock { $0.region }
    guard request.offset == region.offset, request.length == region.length else {
      throw .noSuchAddressOrDevice
    }
    return region
  }
}
