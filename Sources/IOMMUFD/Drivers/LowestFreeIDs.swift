// Numbers of which a unit has so many: domain ids, ASIDs, VMIDs.

internal import HeapModule
internal import Synchronization
internal import SystemPackage

/// Numbers of one kind, the lowest free one first.
final class LowestFreeIDs: Sendable {
  private struct State {
    var returned = Heap<Int>()
    var next: Int
  }

  private let end: Int
  private let exhausted: Errno
  private let state: Mutex<State>

  /// - Parameter exhausted: the error when all are taken.
  init(_ range: Range<Int>, exhausted: Errno) {
    end = range.upperBound
    self.exhausted = exhausted
    state = Mutex(State(next: range.lowerBound))
  }

  func take() throws(Errno) -> UInt16 {
    let id = state.withLock { state -> Int? in
      if let id = state.returned.popMin() { return id }
      guard state.next < end else { return nil }
      defer { state.next += 1 }
      return state.next
    }
    guard let id else { throw exhausted }
    return UInt16(truncatingIfNeeded: id)
  }

  func give(_ id: UInt16) { state.withLock { $0.returned.insert(Int(id)) } }
}
