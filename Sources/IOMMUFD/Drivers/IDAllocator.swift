// SPDX-License-Identifier: Apache-2.0

internal import HeapModule
internal import IOMMU
internal import Synchronization
internal import SystemPackage

/// An allocator of one kind of number that a unit's tables and caches use: domain IDs, ASIDs,
/// VMIDs. The lowest free number is allocated first (ida_alloc_range()).
final class IDAllocator: Sendable {
  private struct State {
    /// Numbers below `next` that have been released.
    var released = Heap<Int>()
    /// The lowest number that has never been allocated.
    var next: Int
  }

  private let end: Int
  private let exhausted: Errno
  private let state: Mutex<State>

  /// - Parameters:
  ///   - range: The numbers to allocate, below 65536.
  ///   - exhausted: The error when all numbers are allocated.
  init(_ range: Range<Int>, exhausted: Errno) {
    end = range.upperBound
    self.exhausted = exhausted
    state = Mutex(State(next: range.lowerBound))
  }

  func allocate() throws(Errno) -> UInt16 {
    let id = state.withLock { state -> Int? in
      if let id = state.released.popMin() { return id }
      guard state.next < end else { return nil }
      defer { state.next += 1 }
      return state.next
    }
    guard let id else { throw exhausted }
    return UInt16(truncatingIfNeeded: id)
  }

  func release(_ id: UInt16) { state.withLock { $0.released.insert(Int(id)) } }
}

extension IDAllocator {
  func allocateDomainID() throws(Errno) -> DomainID { DomainID(rawValue: try allocate()) }
  func release(_ id: DomainID) { release(id.rawValue) }
}
