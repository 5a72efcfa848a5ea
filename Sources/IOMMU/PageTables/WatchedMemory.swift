// Tables, and somebody who is told what a walk reads of them: where it ended, for an event, or all that
// it went through, for a cache.

/// Is told of every entry that a walk looks at.
protocol WalkWatcher {
  /// - Parameter entry: nil: nothing can be read there.
  mutating func note(_ place: PhysicalAddress, _ entry: UInt64?)
}

struct WatchedMemory<Base: EntryMemory, Watcher: WalkWatcher>: EntryMemory {
  private var base: Base
  // Not a part of this: Swift 6.3.1's optimizer crashes where it moves such a part out of the loop of a walk.
  private let watcher: UnsafeMutablePointer<Watcher>

  @inline(__always)
  fileprivate init(_ base: Base, _ watcher: UnsafeMutablePointer<Watcher>) {
    self.base = base
    self.watcher = watcher
  }

  @inline(__always)
  mutating func load(_ address: PhysicalAddress) -> UInt64? {
    let entry = base.load(address)
    watcher.pointee.note(address, entry)
    return entry
  }

  @inline(__always)
  mutating func update(
    _ address: PhysicalAddress, from old: UInt64, to new: UInt64
  ) -> EntryUpdate {
    base.update(address, from: old, to: new)
  }
}

extension EntryMemory {
  /// Makes a walk of this memory that `watcher` is told of.
  @inline(__always)
  func watched<Watcher: WalkWatcher, Outcome>(
    by watcher: inout Watcher, _ walk: (inout WatchedMemory<Self, Watcher>) -> Outcome
  ) -> Outcome {
    withUnsafeMutablePointer(to: &watcher) { watcher in
      // SAFETY: the pointer is in use within the closure only.
      var memory = WatchedMemory(self, watcher)
      return walk(&memory)
    }
  }
}

/// The last entry that a walk looked at.
struct WalkTrace: WalkWatcher {
  private(set) var place = PhysicalAddress(0)
  /// 0 when it could not be read.
  private(set) var entry: UInt64 = 0

  @inline(__always)
  mutating func note(_ place: PhysicalAddress, _ entry: UInt64?) {
    self.place = place
    self.entry = entry ?? 0
  }
}
