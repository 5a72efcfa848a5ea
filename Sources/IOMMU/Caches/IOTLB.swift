// The cache of translations: address space and page number to frame.
//
// One set-associative array per page size; a translation of another size is kept in the array of
// the next smaller one, as the piece that was used. Which entry is replaced depends only on the
// order of look-ups, so a run can be repeated.
//
// The cache never looks at a table: whatever changes there, an entry stays until it is invalidated
// or replaced. That a client which forgets an invalidation sees the old translation is the point.

/// Size of an IOTLB: sets (a power of two) of 8 entries for each page size.
package struct IOTLBGeometry: Hashable, Sendable {
  package var sets4K = 128
  package var sets2M = 32
  package var sets1G = 8

  package init() {}
}

/// What tells the translations of one address space from all others.
struct IOTLBTag: Equatable {
  let rawValue: UInt64

  @inline(__always)
  init(rawValue: UInt64) { self.rawValue = rawValue }

  /// Translations that only second-stage tables made are the domain's, whatever PASID asked.
  @inline(__always)
  init(domain: DomainID) { rawValue = UInt64(domain.rawValue) }

  /// Translations of one PASID's own tables.
  @inline(__always)
  init(domain: DomainID, pasid: PASID) {
    rawValue = UInt64(domain.rawValue) | 1 << 16 | UInt64(pasid.rawValue) << 20
  }

  var domain: DomainID { DomainID(rawValue: UInt16(truncatingIfNeeded: rawValue)) }

  /// Whether a PASID's own tables made the translation.
  @inline(__always)
  static func hasPASID(_ rawValue: UInt64) -> Bool { rawValue & 1 << 16 != 0 }
}

struct IOTLB: ~Copyable {
  private var small: IOTLBArray
  private var medium: IOTLBArray
  private var large: IOTLBArray

  init(_ geometry: IOTLBGeometry) {
    small = IOTLBArray(sets: geometry.sets4K, pageShift: 12)
    medium = IOTLBArray(sets: geometry.sets2M, pageShift: 21)
    large = IOTLBArray(sets: geometry.sets1G, pageShift: 30)
  }

  /// The cached translation of the page that holds `address`.
  @inline(__always)
  mutating func lookup(_ tag: IOTLBTag, _ address: UInt64) -> Translation? {
    if let hit = small.lookup(tag, address) { return hit }
    if !medium.isEmpty, let hit = medium.lookup(tag, address) { return hit }
    if !large.isEmpty, let hit = large.lookup(tag, address) { return hit }
    return nil
  }

  /// The same, if it allows `access`. One that does not is no answer: the table may allow it by now, or a
  /// write has to set the dirty flag (VT-d §6.2.4).
  @inline(__always)
  mutating func lookup(
    _ tag: IOTLBTag, _ address: UInt64, for access: Permissions
  ) -> Translation? {
    guard let hit = lookup(tag, address), hit.permissions.isSuperset(of: access) else {
      return nil
    }
    return hit
  }

  /// - Parameter attributes: twelve bits that the unit keeps with the entry.
  mutating func insert(
    _ tag: IOTLBTag, _ address: UInt64, _ translation: Translation, attributes: UInt16 = 0
  ) {
    if translation.shift >= 30 {
      large.insert(tag, address, translation, attributes)
    } else if translation.shift >= 21 {
      medium.insert(tag, address, translation, attributes)
    } else {
      small.insert(tag, address, translation, attributes)
    }
  }

  mutating func invalidate(_ scope: InvalidationScope) {
    small.invalidate(scope)
    medium.invalidate(scope)
    large.invalidate(scope)
  }

  /// Drops the entries that `isMeant` chooses, for invalidations that no ``InvalidationScope`` says.
  mutating func removeAll(where isMeant: (CachedTranslation) -> Bool) {
    small.removeAll(where: isMeant)
    medium.removeAll(where: isMeant)
    large.removeAll(where: isMeant)
  }

  /// The entry that ``lookup(_:_:)`` finds, as an invalidation sees it.
  func entry(_ tag: IOTLBTag, _ address: UInt64) -> CachedTranslation? {
    small.entry(tag, address) ?? medium.entry(tag, address) ?? large.entry(tag, address)
  }

  /// Entries in use, of all sizes.
  var count: Int { small.count + medium.count + large.count }
}

/// What an invalidation can know of an entry.
struct CachedTranslation {
  let tag: IOTLBTag
  /// An address of the piece that is cached.
  let address: UInt64
  let permissions: Permissions
  let attributes: UInt16
}

/// Translations of pages of one size.
private struct IOTLBArray: ~Copyable {
  private struct Entry {
    /// The page's address with `valid`; 0 when the entry is unused.
    var page: UInt64 = 0
    var tag: UInt64 = 0
    /// The frame's address, the permissions in the bits below, and the unit's attributes above.
    var frame: UInt64 = 0
    /// When it was last used.
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
  /// How many of them a PASID's own tables made.
  private var pasidCount = 0

  init(sets: Int, pageShift: Int) {
    // A power of two, so that an index can be masked and stays inside.
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

  @inline(__always)
  private func firstWay(_ tag: IOTLBTag, _ address: UInt64) -> Int {
    // Domains that map the same addresses should not compete for the same sets.
    let set = (address &>> pageShift) ^ (tag.rawValue &* 0x9E37_79B9)
    return Int(truncatingIfNeeded: set & setMask) &* Self.ways
  }

  @inline(__always)
  private func page(_ address: UInt64) -> UInt64 {
    ((address &>> pageShift) &<< pageShift) | Self.valid
  }

  @inline(__always)
  mutating func lookup(_ tag: IOTLBTag, _ address: UInt64) -> Translation? {
    let wanted = page(address)
    let first = firstWay(tag, address)
    var way = 0
    while way < Self.ways {
      // SAFETY: the index is masked to the sets that exist.
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
    _ tag: IOTLBTag, _ address: UInt64, _ translation: Translation, _ attributes: UInt16
  ) {
    // The piece of a larger page that `address` is in.
    let size = UInt64(1) << UInt64(translation.shift)
    let offset = address & (size - 1) & ~(1 << pageShift - 1)
    let frame = translation.physical.rawValue + offset
    let wanted = page(address)
    let first = firstWay(tag, address)
    var victim = entries + first
    for way in 0..<Self.ways {
      let entry = entries + (first + way)
      if entry.pointee.page == wanted && entry.pointee.tag == tag.rawValue {
        victim = entry
        break
      }
      // Unused entries have stamp 0, so they go first.
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

  func entry(_ tag: IOTLBTag, _ address: UInt64) -> CachedTranslation? {
    let wanted = page(address)
    let first = firstWay(tag, address)
    for way in 0..<Self.ways {
      let entry = entries[first + way]
      if entry.page == wanted && entry.tag == tag.rawValue { return describe(entry) }
    }
    return nil
  }

  mutating func removeAll(where isMeant: (CachedTranslation) -> Bool) {
    guard count > 0 else { return }
    for index in 0..<capacity where entries[index].page != 0 {
      if isMeant(describe(entries[index])) { drop(entries + index) }
    }
  }

  private func describe(_ entry: Entry) -> CachedTranslation {
    CachedTranslation(
      tag: IOTLBTag(rawValue: entry.tag), address: entry.page & ~Self.valid,
      permissions: Permissions(rawValue: UInt8(truncatingIfNeeded: entry.frame & 0x3f)),
      attributes: UInt16(entry.frame >> Self.attributesShift))
  }

  mutating func invalidate(_ scope: InvalidationScope) {
    guard count > 0 else { return }
    switch scope {
    // One page of this size at most: no need to look at the other sets.
    case .pages(let domain, let iova, let shift) where shift <= Int(pageShift) && pasidCount == 0:
      return drop(IOTLBTag(domain: domain), iova.rawValue)
    case .pasidPages(let domain, let pasid, let iova, let shift) where shift <= Int(pageShift):
      return drop(IOTLBTag(domain: domain, pasid: pasid), iova.rawValue)
    default:
      break
    }
    for index in 0..<capacity where entries[index].page != 0 {
      let entry = entries + index
      if matches(entry.pointee, scope) { drop(entry) }
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
      return IOTLBTag.hasPASID(entry.tag) || intersects(entry, iova.rawValue, shift)
    case .pasid(let domain, let pasid):
      return entry.tag == IOTLBTag(domain: domain, pasid: pasid).rawValue
    case .pasidPages(let domain, let pasid, let iova, let shift):
      return entry.tag == IOTLBTag(domain: domain, pasid: pasid).rawValue
        && intersects(entry, iova.rawValue, shift)
    }
  }

  /// Two aligned ranges intersect when the smaller is in the larger.
  private func intersects(_ entry: Entry, _ iova: UInt64, _ shift: Int) -> Bool {
    let larger = UInt64(max(shift, Int(pageShift)))
    return larger >= 64 || (entry.page ^ iova) >> larger == 0
  }

  private mutating func drop(_ tag: IOTLBTag, _ address: UInt64) {
    let wanted = page(address)
    let first = firstWay(tag, address)
    for way in 0..<Self.ways {
      let entry = entries + (first + way)
      if entry.pointee.page == wanted && entry.pointee.tag == tag.rawValue { drop(entry) }
    }
  }

  private mutating func drop(_ entry: UnsafeMutablePointer<Entry>) {
    uncountPASID(entry)
    entry.pointee = Entry()
    count -= 1
  }

  private mutating func uncountPASID(_ entry: UnsafeMutablePointer<Entry>) {
    if IOTLBTag.hasPASID(entry.pointee.tag) { pasidCount -= 1 }
  }
}
