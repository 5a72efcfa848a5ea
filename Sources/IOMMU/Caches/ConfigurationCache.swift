// Caches of what the unit read from its configuration tables: which tables a requester, or a PASID
// of it, uses. Set-associative and deterministic as the IOTLB; a value stays until it is
// invalidated or replaced.

struct ConfigurationCache<Value>: ~Copyable {
  private struct Entry {
    let key: UInt64
    let value: Value
    var stamp: UInt64
  }

  private static var ways: Int { 4 }

  private let entries: UnsafeMutablePointer<Entry?>
  private let setMask: UInt64
  private var clock: UInt64 = 0

  /// - Parameter sets: rounded down to a power of two.
  init(sets: Int) {
    let sets = 1 << (Int.bitWidth - 1 - max(1, min(sets, 1 << 16)).leadingZeroBitCount)
    setMask = UInt64(sets - 1)
    entries = .allocate(capacity: sets * Self.ways)
    entries.initialize(repeating: nil, count: sets * Self.ways)
  }

  deinit {
    entries.deinitialize(count: Int(setMask + 1) * Self.ways)
    entries.deallocate()
  }

  @inline(__always)
  private func first(_ key: UInt64) -> Int {
    Int(truncatingIfNeeded: (key ^ key &>> 20) & setMask) &* Self.ways
  }

  @inline(__always)
  mutating func lookup(_ key: UInt64) -> Value? {
    let first = first(key)
    var way = 0
    while way < Self.ways {
      // SAFETY: the index is masked to the sets that exist.
      let entry = entries + (first &+ way)
      if entry.pointee?.key == key {
        clock &+= 1
        entry.pointee?.stamp = clock
        return entry.pointee?.value
      }
      way &+= 1
    }
    return nil
  }

  mutating func insert(_ key: UInt64, _ value: Value) {
    let first = first(key)
    var victim = first
    for way in first..<first + Self.ways {
      if entries[way]?.key == key {
        victim = way
        break
      }
      if (entries[way]?.stamp ?? 0) < (entries[victim]?.stamp ?? 0) { victim = way }
    }
    clock &+= 1
    entries[victim] = Entry(key: key, value: value, stamp: clock)
  }

  mutating func invalidate(where condition: (UInt64, Value) -> Bool) {
    for index in 0..<Int(setMask + 1) * Self.ways {
      if let entry = entries[index], condition(entry.key, entry.value) { entries[index] = nil }
    }
  }
}
