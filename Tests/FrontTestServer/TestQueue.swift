// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import SystemPackage
internal import UAPI

/// A queue of records of 16 bytes, which is read as iommufd's queues are. A record holds its number
/// in the queue and the value that the client has pushed.
final class TestQueue: OpenFile {
  private struct State {
    /// The values of the records.
    var values: ArraySlice<UInt64> = []
    /// The number of the first record.
    var first: UInt64 = 0
    var wake: (@Sendable () -> Void)?
  }

  private static let lastID = Atomic<UInt32>(0)
  let id = TestQueue.lastID.wrappingAdd(1, ordering: .relaxed).newValue
  private let isWritable: Bool
  private let state = Mutex(State())

  init(isWritable: Bool) {
    self.isWritable = isWritable
    Totals.shared.openQueues.wrappingAdd(1, ordering: .relaxed)
    Totals.shared.queues.withLock { $0[id] = self }
  }

  func push(_ count: Int, of value: UInt64) {
    let wake = state.withLock { state in
      state.values.append(contentsOf: repeatElement(value, count: count))
      return state.wake
    }
    wake?()
  }

  var hasPoll: Bool { true }
  var hasRead: Bool { true }
  var hasWrite: Bool { true }

  func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard destination.count % 16 == 0 else { throw .illegalSeek }
    let (first, values) = state.withLock { state in
      let values = state.values.prefix(destination.count / 16)
      state.values.removeFirst(values.count)
      defer { state.first += UInt64(values.count) }
      return (state.first, values)
    }
    var words: [UInt64] = []
    for (index, value) in values.enumerated() { words += [first + UInt64(index), value] }
    try destination.memory.storeArray(words, at: destination.address)
    return values.count * 16
  }

  func write(from source: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard isWritable else { throw .invalidArgument }
    guard source.count == 4 else { throw .illegalSeek }
    let value = try source.memory.load(UInt32.self, at: source.address)
    Totals.shared.written.wrappingAdd(value, ordering: .relaxed)
    return 4
  }

  func readiness() -> Readiness {
    let isReadable = state.withLock { !$0.values.isEmpty }
    var readiness: Readiness = isWritable ? .writable : []
    if isReadable { readiness.insert(.readable) }
    return readiness
  }

  func setReadinessObserver(_ wake: (@Sendable () -> Void)?) {
    state.withLock { $0.wake = wake }
  }

  func release() {
    Totals.shared.openQueues.wrappingSubtract(1, ordering: .relaxed)
    _ = Totals.shared.queues.withLock { $0.removeValue(forKey: id) }
  }
}
