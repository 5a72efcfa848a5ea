// The cache of table entries (VT-d §6.2.5 Paging-Structure Caches): for the beginning of an address,
// which table a walk has come to and what the entries on the way leave allowed. A walk that finds one
// here begins at that table; so it does not see that an entry above has changed, until the cache is
// invalidated.
//
// Fully associative and deterministic: the entry that was used longest ago is replaced. It is looked at
// only when the IOTLB has nothing, under the same lock.

struct PagingStructureCache: ~Copyable {
  /// Where a walk may begin.
  struct CachedTable: BitwiseCopyable {
    let table: PhysicalAddress
    /// Of that table.
    let level: Int
    /// What the entries above it leave allowed, in the format's own terms.
    let grant: UInt64
  }

  private struct Entry {
    /// When it was last used; 0: never, and the rest has no meaning.
    var stamp: UInt64 = 0
    var tag: UInt64 = 0
    /// The address without the bits that the table translates.
    var prefix: UInt64 = 0
    var shift: UInt64 = 0
    var table = CachedTable(table: PhysicalAddress(0), level: 0, grant: 0)
  }

  private let entries: UnsafeMutablePointer<Entry>
  private let capacity: Int
  private var clock: UInt64 = 0

  /// - Parameter capacity: 0 for a unit that has no such cache.
  init(capacity: Int) {
    self.capacity = max(0, min(capacity, 4096))
    entries = .allocate(capacity: max(1, self.capacity))
    entries.initialize(repeating: Entry(), count: max(1, self.capacity))
  }

  deinit { entries.deallocate() }

  /// The lowest table that a walk for `address` can begin at.
  mutating func find(_ tag: IOTLBTag, _ address: UInt64) -> CachedTable? {
    var best: UnsafeMutablePointer<Entry>?
    for index in 0..<capacity {
      let entry = entries + index
      guard entry.pointee.stamp != 0, entry.pointee.tag == tag.rawValue,
        (address &>> entry.pointee.shift) &<< entry.pointee.shift == entry.pointee.prefix
      else { continue }
      if let found = best, found.pointee.shift <= entry.pointee.shift { continue }
      best = entry
    }
    guard let best else { return nil }
    clock &+= 1
    best.pointee.stamp = clock
    return best.pointee.table
  }

  /// - Parameter shift: log2 of what the table at `step` spans.
  mutating func insert(_ tag: IOTLBTag, _ address: UInt64, shift: Int, _ table: CachedTable) {
    guard capacity > 0 else { return }
    let shift = UInt64(shift)
    let prefix = (address &>> shift) &<< shift
    var victim = entries
    for index in 0..<capacity {
      let entry = entries + index
      if entry.pointee.stamp != 0, entry.pointee.tag == tag.rawValue,
        entry.pointee.shift == shift, entry.pointee.prefix == prefix
      {
        victim = entry
        break
      }
      if entry.pointee.stamp < victim.pointee.stamp { victim = entry }
    }
    clock &+= 1
    victim.pointee = Entry(
      stamp: clock, tag: tag.rawValue, prefix: prefix, shift: shift, table: table)
  }

  /// What an invalidation can know of an entry.
  struct Description {
    let tag: IOTLBTag
    /// The first address that the entry's table translates, and log2 of how many there are.
    let address: UInt64
    let shift: Int
  }

  /// Drops the entries that `isMeant` chooses, for invalidations that no ``InvalidationScope`` says.
  mutating func removeAll(where isMeant: (Description) -> Bool) {
    for index in 0..<capacity where entries[index].stamp != 0 {
      let entry = entries[index]
      let description = Description(
        tag: IOTLBTag(rawValue: entry.tag), address: entry.prefix, shift: Int(entry.shift))
      if isMeant(description) { entries[index] = Entry() }
    }
  }

  /// Removes what the scope's translations went through, or may have.
  mutating func invalidate(_ scope: InvalidationScope) {
    for index in 0..<capacity where entries[index].stamp != 0 && matches(entries[index], scope) {
      entries[index] = Entry()
    }
  }

  private func matches(_ entry: Entry, _ scope: InvalidationScope) -> Bool {
    let domain = UInt16(truncatingIfNeeded: entry.tag)
    switch scope {
    case .global:
      return true
    case .domain(let id), .pages(let id, _, _):
      return domain == id.rawValue
    case .pasid(let id, let pasid):
      return entry.tag == IOTLBTag(domain: id, pasid: pasid).rawValue
    case .pasidPages(let id, let pasid, let iova, let shift):
      let larger = max(UInt64(shift), entry.shift)
      return entry.tag == IOTLBTag(domain: id, pasid: pasid).rawValue
        && (larger >= 64 || (entry.prefix ^ iova.rawValue) >> larger == 0)
    }
  }

  /// Entries in use.
  var count: Int { (0..<capacity).count { entries[$0].stamp != 0 } }
}
