// SPDX-License-Identifier: Apache-2.0

// The answers that a unit may give while tables change without invalidations. The model does not
// depend on the size and the replacement of caches: it has the *sets* of values that can have been
// cached since the last invalidation that covers them. For units whose caches replace nothing the
// model also has the values that are cached, which must stay.
//
// Between invalidations the sets only grow. Paging-structure caches keep the addresses of tables,
// so a translation can come from the present entries of a table that no entry points to any more.

import TestSupport

@testable import IOMMU

struct StalenessModel {
  static let devices = 2
  static let pasids = 3
  static let domains = 2

  /// Returns a random device and PASID.
  static func randomDeviceAndPASID(
    _ random: inout SeededGenerator
  ) -> (device: Int, pasid: Int) {
    let device = Int.random(in: 0..<devices, using: &random)
    return (device, Int.random(in: 0..<pasids, using: &random))
  }

  static func randomDomain(_ random: inout SeededGenerator) -> Int {
    Int.random(in: 0..<domains, using: &random)
  }

  /// The entry of a device and PASID in the configuration tables.
  struct Entry: Equatable {
    /// `nil` means the domain of the device.
    var domain: Int?
    /// `nil` means that only the second-stage tables are used. The pages are then small frames.
    var root: Int?
  }

  /// The address space that a unit caches for an entry. `tag` tags the translations.
  struct Space: Equatable {
    let tag: Int
    let domain: Int
    let root: Int?
  }

  struct Seen: Equatable {
    var frame: Int
    var isWrite: Bool
  }

  /// Whether first-stage translations are tagged by domain and PASID. Otherwise they are tagged by
  /// domain.
  let tagsPASIDs: Bool
  /// Whether a write fails when a read-only translation is cached and the tables now allow the
  /// write.
  let keepsDenials: Bool
  /// The address of the small frames for requests that use only the second-stage tables.
  let frameAddress: UInt64
  var tables = StalenessTables()
  var entries: [[Entry?]]
  var domainOfDevice = [0, 1]

  // The values that can be cached: domains of devices and address spaces; roots, directories,
  // tables and frames by tag; and the frames in the device TLB by device and PASID.
  private var possibleDomains = Array(repeating: NumberSet(), count: devices)
  private var spaces: [[[Space]]]
  private var roots: [NumberSet]
  private var directories: [[NumberSet]]
  private var leafTables: [[NumberSet]]
  private var reach: [[FrameSet]]
  private var deviceReach: [[[FrameSet]]]

  /// The values that are cached when the caches replace nothing.
  private var kept: Kept

  private struct Kept {
    var domains: [Int?]
    var spaces: [[Space?]]
    var small: [[Seen?]]
    var large: [[Seen?]]
    var device: [[[Seen?]]]
  }

  /// - Parameters:
  ///   - base: The address of the first byte of the memory in entries.
  ///   - entry: Returns the entry of a device and PASID.
  init(
    tagsPASIDs: Bool, keepsDenials: Bool = false, base: UInt64,
    entry: (_ device: Int, _ pasid: Int) -> Entry
  ) {
    self.tagsPASIDs = tagsPASIDs
    self.keepsDenials = keepsDenials
    frameAddress = base + StalenessMemory.offset(ofFrame: 0)
    entries = (0..<Self.devices).map { device in
      (0..<Self.pasids).map { entry(device, $0) }
    }
    let tags = (tagsPASIDs ? Self.domains * Self.pasids : Self.domains) + Self.domains
    let pages = StalenessTables.pages
    spaces = Array(repeating: Array(repeating: [], count: Self.pasids), count: Self.devices)
    roots = Array(repeating: NumberSet(), count: tags)
    directories = Array(repeating: Array(repeating: NumberSet(), count: 2), count: tags)
    leafTables = Array(repeating: Array(repeating: NumberSet(), count: 4), count: tags)
    reach = Array(repeating: Array(repeating: FrameSet(), count: pages), count: tags)
    deviceReach = Array(
      repeating: Array(
        repeating: Array(repeating: FrameSet(), count: pages), count: Self.pasids),
      count: Self.devices)
    kept = Kept(
      domains: Array(repeating: nil, count: Self.devices),
      spaces: Array(repeating: Array(repeating: nil, count: Self.pasids), count: Self.devices),
      small: Array(repeating: Array(repeating: nil, count: pages), count: tags),
      large: Array(repeating: Array(repeating: nil, count: 4), count: tags),
      device: Array(
        repeating: Array(repeating: Array(repeating: nil, count: pages), count: Self.pasids),
        count: Self.devices))
    addReachable()
  }

  // MARK: Tags

  private var firstTags: Int { reach.count - Self.domains }

  func tag(_ domain: Int, _ pasid: Int) -> Int {
    tagsPASIDs ? domain * Self.pasids + pasid : domain
  }
  func secondTag(_ domain: Int) -> Int { firstTags + domain }
  func firstTags(of domain: Int) -> [Int] {
    tagsPASIDs ? (0..<Self.pasids).map { tag(domain, $0) } : [domain]
  }
  var allTags: [Int] { Array(reach.indices) }

  private func space(_ entry: Entry, _ pasid: Int, domain: Int) -> Space {
    let domain = entry.domain ?? domain
    return Space(
      tag: entry.root == nil ? secondTag(domain) : tag(domain, pasid), domain: domain,
      root: entry.root)
  }

  // MARK: Growth

  /// Adds the values that are reachable from the present tables and entries. Called after each
  /// change of them.
  mutating func addReachable() {
    for device in 0..<Self.devices {
      possibleDomains[device].insert(domainOfDevice[device])
      for pasid in 0..<Self.pasids {
        if let entry = entries[device][pasid] {
          for domain in possibleDomains[device] {
            let space = space(entry, pasid, domain: domain)
            if !spaces[device][pasid].contains(space) { spaces[device][pasid].append(space) }
          }
        }
        for space in spaces[device][pasid] {
          if let root = space.root { roots[space.tag].insert(root) }
        }
      }
    }
    for tag in 0..<firstTags { addReachable(tag) }
    for tag in firstTags..<reach.count {
      for frame in tables.host.indices {
        reach[tag][frame].insert(tables.host[frame], writable: true)
      }
    }
    for device in 0..<Self.devices {
      for pasid in 0..<Self.pasids {
        for space in spaces[device][pasid] {
          for page in 0..<StalenessTables.pages {
            deviceReach[device][pasid][page].formUnion(reach[space.tag][page])
          }
        }
      }
    }
  }

  private mutating func addReachable(_ tag: Int) {
    for g in 0..<2 {
      for root in roots[tag] { directories[tag][g].insert(tables.top[root][g]) }
      for directory in directories[tag][g] {
        for m in 0..<2 { addReachable(tag, g * 2 + m, tables.middle[directory][m]) }
      }
    }
    for block in 0..<4 {
      for table in leafTables[tag][block] {
        for l in 0..<4 {
          guard case .page(let frame, let writable) = tables.bottom[table][l] else { continue }
          reach[tag][block * 4 + l].insert(tables.host[frame], writable: writable)
        }
      }
    }
  }

  private mutating func addReachable(_ tag: Int, _ block: Int, _ entry: StalenessTables.Middle) {
    switch entry {
    case .absent: break
    case .table(let table): leafTables[tag][block].insert(table)
    case .large(let large):
      for page in block * 4..<block * 4 + 4 {
        reach[tag][page].insert(StalenessTables.frame(ofLarge: large, page), writable: true)
      }
    }
  }

  // MARK: Invalidations

  mutating func invalidateDomains(of devices: Range<Int>) {
    for device in devices {
      possibleDomains[device] = NumberSet()
      kept.domains[device] = nil
    }
  }

  mutating func invalidateSpaces(where isMeant: (_ device: Int, _ pasid: Int, Space) -> Bool) {
    for device in 0..<Self.devices {
      for pasid in 0..<Self.pasids {
        spaces[device][pasid].removeAll { isMeant(device, pasid, $0) }
        if let space = kept.spaces[device][pasid], isMeant(device, pasid, space) {
          kept.spaces[device][pasid] = nil
        }
      }
    }
  }

  /// - Parameters:
  ///   - range: `nil` means all addresses.
  ///   - structures: Whether the paging structures above the pages are invalidated too.
  mutating func invalidate(_ tags: [Int], _ range: ClosedRange<UInt64>?, structures: Bool) {
    for tag in tags {
      let isSecond = tag >= firstTags
      for page in 0..<StalenessTables.pages {
        let address = address(page, isSecond: isSecond)
        guard Self.overlaps(range, address, 12) else { continue }
        reach[tag][page] = FrameSet()
        kept.small[tag][page] = nil
      }
      guard !isSecond else { continue }
      for block in 0..<4 where Self.overlaps(range, StalenessTables.address(block * 4), 21) {
        kept.large[tag][block] = nil
        if structures { leafTables[tag][block] = NumberSet() }
      }
      guard structures else { continue }
      for g in 0..<2 where Self.overlaps(range, StalenessTables.address(g * 8), 30) {
        directories[tag][g] = NumberSet()
      }
      if Self.overlaps(range, StalenessTables.base & ~(1 << 39 - 1), 39) {
        roots[tag] = NumberSet()
      }
    }
  }

  /// Returns the address of a request for the page.
  func address(_ page: Int, isSecond: Bool) -> UInt64 {
    isSecond ? frameAddress + UInt64(page) << 12 : StalenessTables.address(page)
  }

  private static func overlaps(
    _ range: ClosedRange<UInt64>?, _ address: UInt64, _ shift: UInt64
  ) -> Bool {
    range.map { $0.overlaps(address...address | (1 << shift - 1)) } ?? true
  }

  /// Invalidates the device TLB. Without PASID the range applies to translations without PASID, and
  /// all translations with a PASID are invalidated.
  mutating func invalidateDeviceTLB(
    _ device: Int, pasid: Int?, _ range: ClosedRange<UInt64>?, isSecond: (Int) -> Bool
  ) {
    for other in 0..<Self.pasids {
      guard pasid == nil || pasid == other else { continue }
      for page in 0..<StalenessTables.pages {
        let isOfAnyAddress = pasid == nil && other != 0
        let address = address(page, isSecond: isSecond(other))
        guard isOfAnyAddress || Self.overlaps(range, address, 12) else { continue }
        deviceReach[device][other][page] = FrameSet()
        kept.device[device][other][page] = nil
      }
    }
  }

  // MARK: Requests

  struct Request: CustomStringConvertible {
    let device: Int
    let pasid: Int
    let page: Int
    let isWrite: Bool
    let usesATS: Bool

    var description: String {
      "\(isWrite ? "write" : "read") of page \(page) by device \(device), PASID \(pasid)"
        + (usesATS ? ", translated" : "")
    }
  }

  /// Returns whether a request can reach `frame`, or fault when `frame` is `nil`.
  func allows(_ request: Request, _ frame: Int?) -> Bool {
    let candidates = spaces[request.device][request.pasid]
    if let frame {
      if request.usesATS {
        return deviceReach[request.device][request.pasid][request.page]
          .contains(frame, forWriting: request.isWrite)
      }
      return candidates.contains {
        reach[$0.tag][request.page].contains(frame, forWriting: request.isWrite)
      }
    }
    if entries[request.device][request.pasid] == nil { return true }
    return candidates.contains { space in
      // Cached tables cause no other fault.
      if keepsDenials, request.isWrite, reach[space.tag][request.page].hasReadOnly { return true }
      guard let root = space.root else { return false }
      guard let found = tables.walk(root, request.page) else { return true }
      return request.isWrite && !found.writable
    }
  }

  /// Returns the cached translation of a unit that replaces nothing, or that of the device TLB.
  func expected(_ request: Request) -> (seen: Seen, isOfDevice: Bool)? {
    if request.usesATS, let seen = kept.device[request.device][request.pasid][request.page],
      seen.isWrite == request.isWrite
    {
      return (seen, true)
    }
    guard let space = keptSpace(request) else { return nil }
    let seen = kept.small[space.tag][request.page] ?? largeSeen(space, request.page)
    guard let seen, !request.isWrite || seen.isWrite else { return nil }
    return (seen, false)
  }

  private func largeSeen(_ space: Space, _ page: Int) -> Seen? {
    guard space.root != nil, let seen = kept.large[space.tag][page / 4] else { return nil }
    return Seen(
      frame: StalenessTables.frame(ofLarge: seen.frame, page), isWrite: seen.isWrite)
  }

  private func keptSpace(_ request: Request) -> Space? {
    if let space = kept.spaces[request.device][request.pasid] { return space }
    guard let entry = entries[request.device][request.pasid] else { return nil }
    let domain = kept.domains[request.device] ?? domainOfDevice[request.device]
    return space(entry, request.pasid, domain: domain)
  }

  /// Records that a unit that replaces nothing has cached the domain of the device.
  mutating func recordDomain(of device: Int) {
    kept.domains[device] = kept.domains[device] ?? domainOfDevice[device]
  }

  /// Records what a unit that replaces nothing has cached by the request.
  mutating func record(_ request: Request, _ frame: Int?) {
    let expected = expected(request)
    recordDomain(of: request.device)
    if expected?.isOfDevice == true { return }
    guard let space = keptSpace(request) else { return }
    kept.spaces[request.device][request.pasid] = space
    guard let frame else { return }
    let seen = Seen(frame: frame, isWrite: request.isWrite)
    if request.usesATS { kept.device[request.device][request.pasid][request.page] = seen }
    if expected != nil { return }
    if frame < StalenessTables.smallFrames {
      kept.small[space.tag][request.page] = seen
    } else {
      let large = (frame - StalenessTables.smallFrames) / 4
      kept.large[space.tag][request.page / 4] = Seen(frame: large, isWrite: request.isWrite)
    }
  }
}
