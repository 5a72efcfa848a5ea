// Caches of what the unit read from its configuration tables: which tables a requester, or a PASID
// of it, uses. Set-associative and deterministic as the IOTLB; a value stays until it is
// invalidated or replaced.

struct ConfigurationCache<Value: BitwiseCopyable>: ~Copyable {
  private struct Entry {
    /// The key plus 1; 0 when the entry is unused and the rest has no meaning.
    var key: UInt64
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
    // SAFETY: entries are trivial, and of one whose key is 0 nothing else is looked at.
    entries = bytes.assumingMemoryBound(to: Entry.self)
  }

  deinit { entries.deallocate() }

  @inline(__always)
  private func first(_ key: UInt64) -> Int {
    Int(truncatingIfNeeded: (key ^ key &>> 20) & setMask) &* Self.ways
  }

  /// The value of `key`, in place: valid until the cache is next changed.
  @inline(__always)
  mutating func find(_ key: UInt64) -> UnsafePointer<Value>? {
    let first = first(key)
    var way = 0
    while way < Self.ways {
      // SAFETY: the index is masked to the sets that exist.
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

  mutating func insert(_ key: UInt64, _ value: Value) {
    let first = first(key)
    var victim = first
    for way in first..<first + Self.ways {
      if entries[way].key == key &+ 1 {
        victim = way
        break
      }
      // Unused entries have stamp 0, so they go first.
      if entries[way].stamp < entries[victim].stamp { victim = way }
    }
    clock &+= 1
    entries[victim] = Entry(key: key &+ 1, stamp: clock, value: value)
  }

  /// Values that are cached now.
  var count: Int { (0..<Int(setMask + 1) * Self.ways).count { entries[$0].key != 0 } }

  mutating func invalidate(where condition: (UInt64, Value) -> Bool) {
    for index in 0..<Int(setMask + 1) * Self.ways where entries[index].key != 0 {
      guard condition(entries[index].key &- 1, entries[index].value) else { continue }
      entries[index].key = 0
      entries[index].stamp = 0
    }
  }
}
