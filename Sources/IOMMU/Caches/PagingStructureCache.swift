// SPDX-License-Identifier: Apache-2.0

/// A cache of table entries (VT-d §6.2.5 Paging-Structure Caches): for the upper bits of an IOVA,
/// the table that a walk reached and the rights that the entries above the table leave.
///
/// A walk that finds a table here starts at that table. Until the cache is invalidated, such a walk
/// does not see changes of the entries above.
///
/// The cache is fully associative, and the entry that was used least recently is replaced, so that
/// a run of requests gives the same results each time. The unit owns the cache, guards it with its
/// lock, and searches it only when the IOTLB misses.
struct PagingStructureCache: ~Copyable {
  /// A table at which a walk may start.
  struct CachedTable: BitwiseCopyable {
    let table: PhysicalAddress
    /// The level of the table.
    let level: Int
    /// The rights that the entries above the table leave, in the format's own bits.
    let grant: UInt64
  }

  private struct Entry {
    /// The time of the last use. 0 when the entry is unused; the other fields are then undefined.
    var stamp: UInt64 = 0
    var tag: UInt64 = 0
    /// The IOVA without the bits that the table translates.
    var prefix: UInt64 = 0
    /// log2 of the bytes that the table spans.
    var shift: UInt64 = 0
    var table = CachedTable(table: PhysicalAddress(0), level: 0, grant: 0)
  }

  private let entries: UnsafeMutablePointer<Entry>
  private let capacity: Int
  private var clock: UInt64 = 0

  /// - Parameter capacity: the number of entries; 0 for a unit without such a cache.
  init(capacity: Int) {
    self.capacity = max(0, min(capacity, 4096))
    entries = .allocate(capacity: max(1, self.capacity))
    entries.initialize(repeating: Entry(), count: max(1, self.capacity))
  }

  deinit { entries.deallocate() }

  /// Returns the lowest table at which a walk for `iova` can start.
  mutating func find(_ tag: IOTLBTag, _ iova: IOVA) -> CachedTable? {
    let address = iova.rawValue
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

  /// Caches the table that a walk for `iova` reached.
  /// - Parameter shift: log2 of the bytes that the table spans.
  mutating func insert(_ tag: IOTLBTag, _ iova: IOVA, shift: Int, _ table: CachedTable) {
    guard capacity > 0 else { return }
    let shift = UInt64(shift)
    let prefix = (iova.rawValue &>> shift) &<< shift
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

  /// The properties of an entry by which invalidations select entries.
  struct Description {
    let tag: IOTLBTag
    /// The first address that the entry's table translates.
    let iova: IOVA
    /// log2 of the number of addresses that the table translates.
    let shift: Int
  }

  /// Removes the entries for which `condition` returns true, for invalidations that are no
  /// ``InvalidationScope``.
  mutating func removeAll(where condition: (Description) -> Bool) {
    for index in 0..<capacity where entries[index].stamp != 0 {
      let entry = entries[index]
      let description = Description(
        tag: IOTLBTag(rawValue: entry.tag), iova: IOVA(entry.prefix), shift: Int(entry.shift))
      if condition(description) { entries[index] = Entry() }
    }
  }

  /// Removes the entries that the translations of `scope` may have used.
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

  /// The number of entries in use.
  var count: Int { (0..<capacity).count { entries[$0].stamp != 0 } }
}
