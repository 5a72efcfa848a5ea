// SPDX-License-Identifier: Apache-2.0

/// A cache of what a unit read from its configuration tables: the context of a requester, or the
/// address space of one of its PASIDs. A value stays until it is invalidated or replaced.
///
/// The cache is set-associative. The entry that was used least recently is replaced, so that a run
/// of requests gives the same results each time. The unit owns the cache and guards it with its
/// lock.
struct ConfigurationCache<Value: BitwiseCopyable>: ~Copyable {
  private struct Entry {
    /// The key plus 1. 0 when the entry is unused; the other fields are then undefined.
    var key: UInt64
    /// The time of the last use.
    var stamp: UInt64
    var value: Value
  }

  private static var ways: Int { 4 }

  private let entries: UnsafeMutablePointer<Entry>
  private let setMask: UInt64
  private var clock: UInt64 = 0

  /// - Parameter sets: rounded down to a power of two.
  init(sets: Int) {
    let sets = 1 << (Int.bitWidth - 1 - max(1, min(sets, 1 << 16)).leadingZeroBitCount)
    setMask = UInt64(sets - 1)
    let bytes = UnsafeMutableRawPointer.allocate(
      byteCount: sets * Self.ways * MemoryLayout<Entry>.stride,
      alignment: MemoryLayout<Entry>.alignment)
    bytes.initializeMemory(
      as: UInt8.self, repeating: 0, count: sets * Self.ways * MemoryLayout<Entry>.stride)
    // SAFETY: entries are trivial, and the value of an entry whose key is 0 is not read.
    entries = bytes.assumingMemoryBound(to: Entry.self)
  }

  deinit { entries.deallocate() }

  /// Returns the index of the first entry of the set for `key`.
  @inline(__always)
  private func firstWay(_ key: UInt64) -> Int {
    Int(truncatingIfNeeded: (key ^ key &>> 20) & setMask) &* Self.ways
  }

  /// Returns the value of `key`. The pointer is valid until the cache is changed.
  @inline(__always)
  mutating func find(_ key: UInt64) -> UnsafePointer<Value>? {
    let first = firstWay(key)
    var way = 0
    while way < Self.ways {
      // SAFETY: `firstWay` masks the index to the existing sets.
      let entry = entries + (first &+ way)
      if entry.pointee.key == key &+ 1 {
        clock &+= 1
        entry.pointee.stamp = clock
        return UnsafePointer(entry.pointer(to: \.value))
      }
      way &+= 1
    }
    return nil
  }

  /// Caches `value` for `key`, in place of the value that `key` has or of the set's least recently
  /// used entry.
  mutating func insert(_ key: UInt64, _ value: Value) {
    let first = firstWay(key)
    var victim = first
    for way in first..<first + Self.ways {
      if entries[way].key == key &+ 1 {
        victim = way
        break
      }
      // Unused entries have stamp 0 and are chosen first.
      if entries[way].stamp < entries[victim].stamp { victim = way }
    }
    clock &+= 1
    entries[victim] = Entry(key: key &+ 1, stamp: clock, value: value)
  }

  /// The number of values that are cached now.
  var count: Int { (0..<Int(setMask + 1) * Self.ways).count { entries[$0].key != 0 } }

  /// Removes the values for which `condition` returns true.
  mutating func invalidate(where condition: (UInt64, Value) -> Bool) {
    for index in 0..<Int(setMask + 1) * Self.ways where entries[index].key != 0 {
      guard condition(entries[index].key &- 1, entries[index].value) else { continue }
      entries[index].key = 0
      entries[index].stamp = 0
    }
  }
}
