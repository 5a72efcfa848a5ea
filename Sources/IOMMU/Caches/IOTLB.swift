// SPDX-License-Identifier: Apache-2.0

// The cache of translations, by address space and page.
//
// The IOTLB has one set-associative array for each of three page sizes. A translation of another
// size is stored in the array of the next smaller size, as the piece that contains the address that
// was used. The entry that was used least recently is replaced, so that a run of requests gives the
// same results each time.
//
// A change of a page table does not change the cache: an entry stays until it is invalidated or
// replaced. A client that omits an invalidation therefore sees the old translation, as on hardware.
//
// The unit owns the IOTLB and guards it with its lock.

/// The size of an IOTLB: for each page size the number of sets, a power of two, of 8 entries.
package struct IOTLBGeometry: Hashable, Sendable {
  package var sets4K = 128
  package var sets2M = 32
  package var sets1G = 8

  package init() {}
}

/// The tag of the translations of one address space.
struct IOTLBTag: Equatable {
  let rawValue: UInt64

  @inline(__always)
  init(rawValue: UInt64) { self.rawValue = rawValue }

  /// Makes the tag of translations by second-stage tables alone. They do not depend on the
  /// request's PASID.
  @inline(__always)
  init(domain: DomainID) { rawValue = UInt64(domain.rawValue) }

  /// Makes the tag of translations by one PASID's own tables.
  @inline(__always)
  init(domain: DomainID, pasid: PASID) {
    rawValue = UInt64(domain.rawValue) | 1 << 16 | UInt64(pasid.rawValue) << 20
  }

  var domain: DomainID { DomainID(rawValue: UInt16(truncatingIfNeeded: rawValue)) }

  /// Returns whether the tag is one of translations by a PASID's own tables.
  @inline(__always)
  static func hasPASID(_ rawValue: UInt64) -> Bool { rawValue & 1 << 16 != 0 }
}

/// The IOTLB of a unit, or the translations that a device TLB holds.
struct IOTLB: ~Copyable {
  private var small: IOTLBArray
  private var medium: IOTLBArray
  private var large: IOTLBArray

  init(_ geometry: IOTLBGeometry) {
    small = IOTLBArray(sets: geometry.sets4K, pageShift: 12)
    medium = IOTLBArray(sets: geometry.sets2M, pageShift: 21)
    large = IOTLBArray(sets: geometry.sets1G, pageShift: 30)
  }

  /// Returns the cached translation of the page that contains `iova`.
  @inline(__always)
  mutating func lookup(_ tag: IOTLBTag, _ iova: IOVA) -> Translation? {
    if let hit = small.lookup(tag, iova) { return hit }
    if !medium.isEmpty, let hit = medium.lookup(tag, iova) { return hit }
    if !large.isEmpty, let hit = large.lookup(tag, iova) { return hit }
    return nil
  }

  /// Returns the cached translation of the page that contains `iova`, if it allows `access`. One
  /// that does not allow `access` is a miss: the table can allow the access by now, or the write
  /// has to set the dirty flag (VT-d §6.2.4).
  @inline(__always)
  mutating func lookup(_ tag: IOTLBTag, _ iova: IOVA, for access: Permissions) -> Translation? {
    guard let hit = lookup(tag, iova), hit.permissions.isSuperset(of: access) else {
      return nil
    }
    return hit
  }

  /// Caches `translation` for the page that contains `iova`.
  /// - Parameter attributes: twelve bits that are stored with the entry. The unit defines their
  ///   meaning.
  mutating func insert(
    _ tag: IOTLBTag, _ iova: IOVA, _ translation: Translation, attributes: UInt16 = 0
  ) {
    if translation.shift >= 30 {
      large.insert(tag, iova, translation, attributes)
    } else if translation.shift >= 21 {
      medium.insert(tag, iova, translation, attributes)
    } else {
      small.insert(tag, iova, translation, attributes)
    }
  }

  /// Removes the translations of `scope`.
  mutating func invalidate(_ scope: InvalidationScope) {
    small.invalidate(scope)
    medium.invalidate(scope)
    large.invalidate(scope)
  }

  /// Removes the entries for which `condition` returns true, for invalidations that are no
  /// ``InvalidationScope``.
  mutating func removeAll(where condition: (CachedTranslation) -> Bool) {
    small.removeAll(where: condition)
    medium.removeAll(where: condition)
    large.removeAll(where: condition)
  }

  /// Returns the entry that ``lookup(_:_:)`` finds.
  func entry(_ tag: IOTLBTag, _ iova: IOVA) -> CachedTranslation? {
    small.entry(tag, iova) ?? medium.entry(tag, iova) ?? large.entry(tag, iova)
  }

  /// The number of entries in use, of all page sizes.
  var count: Int { small.count + medium.count + large.count }
}

/// The properties of an entry by which invalidations select entries.
struct CachedTranslation {
  let tag: IOTLBTag
  /// The first address of the page or piece that is cached.
  let iova: IOVA
  let permissions: Permissions
  let attributes: UInt16
}

/// The translations of one page size.
private struct IOTLBArray: ~Copyable {
  private struct Entry {
    /// The page's address and the `valid` bit. 0 when the entry is unused.
    var page: UInt64 = 0
    var tag: UInt64 = 0
    /// The physical address, with the permissions in the low bits and the unit's attributes in the
    /// high bits.
    var frame: UInt64 = 0
    /// The time of the last use.
    var stamp: UInt64 = 0
  }

  private static let ways = 8
  private static let valid: UInt64 = 1
  private static let frameMask: UInt64 = 0x000f_ffff_ffff_f000
  private static let attributesShift: UInt64 = 52

  private let entries: UnsafeMutablePointer<Entry>
  private let setMask: UInt64
  private let pageShift: UInt64
  private var clock: UInt64 = 0
  private(set) var count = 0
  /// The number of entries that are translations by a PASID's own tables.
  private var pasidCount = 0

  init(sets: Int, pageShift: Int) {
    // A power of two, so that a mask keeps every index in range.
    let sets = 1 << (Int.bitWidth - 1 - max(1, min(sets, 1 << 16)).leadingZeroBitCount)
    setMask = UInt64(sets - 1)
    self.pageShift = UInt64(pageShift)
    entries = .allocate(capacity: sets * Self.ways)
    entries.initialize(repeating: Entry(), count: sets * Self.ways)
  }

  deinit { entries.deallocate() }

  private var capacity: Int { Int(setMask + 1) * Self.ways }

  @inline(__always)
  var isEmpty: Bool { count == 0 }

  /// Returns the index of the first entry of the set for `iova`.
  @inline(__always)
  private func firstWay(_ tag: IOTLBTag, _ iova: IOVA) -> Int {
    // The tag is part of the hash, so that domains that map the same addresses use different sets.
    let set = (iova.rawValue &>> pageShift) ^ (tag.rawValue &* 0x9E37_79B9)
    return Int(truncatingIfNeeded: set & setMask) &* Self.ways
  }

  /// Returns `Entry.page` of the entry for `iova`.
  @inline(__always)
  private func page(_ iova: IOVA) -> UInt64 {
    ((iova.rawValue &>> pageShift) &<< pageShift) | Self.valid
  }

  @inline(__always)
  mutating func lookup(_ tag: IOTLBTag, _ iova: IOVA) -> Translation? {
    let wanted = page(iova)
    let first = firstWay(tag, iova)
    var way = 0
    while way < Self.ways {
      // SAFETY: `firstWay` masks the index to the existing sets.
      let entry = entries + (first &+ way)
      if entry.pointee.page == wanted && entry.pointee.tag == tag.rawValue {
        clock &+= 1
        entry.pointee.stamp = clock
        let frame = entry.pointee.frame
        return Translation(
          physical: PhysicalAddress(frame & Self.frameMask),
          shift: Int(truncatingIfNeeded: pageShift),
          permissions: Permissions(rawValue: UInt8(truncatingIfNeeded: frame & 0x3f)))
      }
      way &+= 1
    }
    return nil
  }

  mutating func insert(
    _ tag: IOTLBTag, _ iova: IOVA, _ translation: Translation, _ attributes: UInt16
  ) {
    // The piece of a larger page that contains `iova`.
    let size = UInt64(1) << UInt64(translation.shift)
    let offset = iova.rawValue & (size - 1) & ~(1 << pageShift - 1)
    let frame = translation.physical.rawValue + offset
    let wanted = page(iova)
    let first = firstWay(tag, iova)
    var victim = entries + first
    for way in 0..<Self.ways {
      let entry = entries + (first + way)
      if entry.pointee.page == wanted && entry.pointee.tag == tag.rawValue {
        victim = entry
        break
      }
      // Unused entries have stamp 0 and are chosen first.
      if entry.pointee.stamp < victim.pointee.stamp { victim = entry }
    }
    clock &+= 1
    if victim.pointee.page == 0 { count += 1 } else { uncountPASID(victim) }
    if IOTLBTag.hasPASID(tag.rawValue) { pasidCount += 1 }
    victim.pointee = Entry(
      page: wanted, tag: tag.rawValue,
      frame: frame | UInt64(translation.permissions.rawValue)
        | UInt64(attributes) << Self.attributesShift,
      stamp: clock)
  }

  func entry(_ tag: IOTLBTag, _ iova: IOVA) -> CachedTranslation? {
    let wanted = page(iova)
    let first = firstWay(tag, iova)
    for way in 0..<Self.ways {
      let entry = entries[first + way]
      if entry.page == wanted && entry.tag == tag.rawValue { return describe(entry) }
    }
    return nil
  }

  mutating func removeAll(where condition: (CachedTranslation) -> Bool) {
    guard count > 0 else { return }
    for index in 0..<capacity where entries[index].page != 0 {
      if condition(describe(entries[index])) { remove(entries + index) }
    }
  }

  private func describe(_ entry: Entry) -> CachedTranslation {
    CachedTranslation(
      tag: IOTLBTag(rawValue: entry.tag), iova: IOVA(entry.page & ~Self.valid),
      permissions: Permissions(rawValue: UInt8(truncatingIfNeeded: entry.frame & 0x3f)),
      attributes: UInt16(entry.frame >> Self.attributesShift))
  }

  mutating func invalidate(_ scope: InvalidationScope) {
    guard count > 0 else { return }
    switch scope {
    // The range is at most one page of this array, so one set is searched.
    case .pages(let domain, let iova, let shift) where shift <= Int(pageShift) && pasidCount == 0:
      return remove(IOTLBTag(domain: domain), iova)
    case .pasidPages(let domain, let pasid, let iova, let shift) where shift <= Int(pageShift):
      return remove(IOTLBTag(domain: domain, pasid: pasid), iova)
    default:
      break
    }
    for index in 0..<capacity where entries[index].page != 0 {
      let entry = entries + index
      if matches(entry.pointee, scope) { remove(entry) }
    }
  }

  private func matches(_ entry: Entry, _ scope: InvalidationScope) -> Bool {
    switch scope {
    case .global:
      return true
    case .domain(let domain):
      return UInt16(truncatingIfNeeded: entry.tag) == domain.rawValue
    case .pages(let domain, let iova, let shift):
      guard UInt16(truncatingIfNeeded: entry.tag) == domain.rawValue else { return false }
      return IOTLBTag.hasPASID(entry.tag) || intersects(entry, iova, shift)
    case .pasid(let domain, let pasid):
      return entry.tag == IOTLBTag(domain: domain, pasid: pasid).rawValue
    case .pasidPages(let domain, let pasid, let iova, let shift):
      return entry.tag == IOTLBTag(domain: domain, pasid: pasid).rawValue
        && intersects(entry, iova, shift)
    }
  }

  /// Returns whether the entry's page intersects 2^`shift` bytes at `iova`. Two aligned ranges
  /// intersect when the larger contains the smaller.
  private func intersects(_ entry: Entry, _ iova: IOVA, _ shift: Int) -> Bool {
    let larger = UInt64(max(shift, Int(pageShift)))
    return larger >= 64 || (entry.page ^ iova.rawValue) >> larger == 0
  }

  private mutating func remove(_ tag: IOTLBTag, _ iova: IOVA) {
    let wanted = page(iova)
    let first = firstWay(tag, iova)
    for way in 0..<Self.ways {
      let entry = entries + (first + way)
      if entry.pointee.page == wanted && entry.pointee.tag == tag.rawValue { remove(entry) }
    }
  }

  private mutating func remove(_ entry: UnsafeMutablePointer<Entry>) {
    uncountPASID(entry)
    entry.pointee = Entry()
    count -= 1
  }

  private mutating func uncountPASID(_ entry: UnsafeMutablePointer<Entry>) {
    if IOTLBTag.hasPASID(entry.pointee.tag) { pasidCount -= 1 }
  }
}
