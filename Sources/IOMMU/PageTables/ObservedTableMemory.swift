// SPDX-License-Identifier: Apache-2.0

// Table memory that reports every entry a walk loads: a unit needs the address of the entry at
// which a walk ended for its fault record, and all entries of a walk for the paging-structure
// cache.

/// Receives every entry that a walk loads.
protocol WalkObserver {
  /// - Parameter entry: `nil` when the memory at `address` cannot be read.
  mutating func record(_ entry: UInt64?, at address: PhysicalAddress)
}

/// Table memory that passes each loaded entry to an observer.
struct ObservedTableMemory<Base: TableMemory, Observer: WalkObserver>: TableMemory {
  private var base: Base
  // A pointer, because the optimizer of Swift 6.3.1 crashes when an observer that is stored in this
  // struct is moved out of the walk's loop.
  private let observer: UnsafeMutablePointer<Observer>

  @inline(__always)
  fileprivate init(_ base: Base, _ observer: UnsafeMutablePointer<Observer>) {
    self.base = base
    self.observer = observer
  }

  @inline(__always)
  mutating func load(_ address: PhysicalAddress) -> UInt64? {
    let entry = base.load(address)
    observer.pointee.record(entry, at: address)
    return entry
  }

  @inline(__always)
  mutating func update(
    _ address: PhysicalAddress, from old: UInt64, to new: UInt64
  ) -> EntryUpdate {
    base.update(address, from: old, to: new)
  }
}

extension TableMemory {
  /// Runs `walk` on this memory and passes every entry that it loads to `observer`.
  @inline(__always)
  func observed<Observer: WalkObserver, Outcome>(
    by observer: inout Observer, _ walk: (inout ObservedTableMemory<Self, Observer>) -> Outcome
  ) -> Outcome {
    withUnsafeMutablePointer(to: &observer) { observer in
      // SAFETY: the pointer is used inside the closure only.
      var memory = ObservedTableMemory(self, observer)
      return walk(&memory)
    }
  }
}

/// The entry that a walk loaded last.
struct LastEntryRead: WalkObserver {
  private(set) var address = PhysicalAddress(0)
  /// 0 when the entry could not be read.
  private(set) var entry: UInt64 = 0

  @inline(__always)
  mutating func record(_ entry: UInt64?, at address: PhysicalAddress) {
    self.address = address
    self.entry = entry ?? 0
  }
}
