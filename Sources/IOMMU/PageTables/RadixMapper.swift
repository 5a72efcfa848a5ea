// The driver's side of a page table: mapping, unmapping, looking up.
//
// It follows the kernel's generic_pt: a mapping uses the largest pages that fit; an unmap removes
// whole entries, so that it may take away more than asked, and stops at the first hole. Hardware
// walks the table meanwhile, so entries are stored whole, a new table is linked only when it is
// complete, and a table that was unlinked is handed to the caller, to be freed when no walk
// can be in it any more. Unlike generic_pt an unmap also unlinks tables that it leaves empty: our table
// memory has a bound that all clients share.
//
// Callers serialise changes to one table.

internal import Synchronization
internal import SystemPackage

/// What an unmap did.
package struct UnmapResult {
  /// Bytes from the start of the range to the first hole.
  package var length: UInt64 = 0
  /// Tables that became unreachable; to be freed after the invalidation.
  package var retired = RetiredTables()
}

struct RadixMapper<Format: WalkableFormat> {
  let memory: PhysicalMemory
  let window: FrameWindow
  let root: PhysicalAddress
  let topLevel: Int
  /// log2 of the entries of the top table, where that may be larger or smaller than others.
  private let topBits: Int
  /// Bit n: pages of 2^n bytes may be used.
  let pageSizes: UInt64

  /// An empty table.
  /// - Parameter topBits: for formats that widen their top table.
  init(
    topLevel: Int, topBits: Int = Format.indexBits, pageSizes: UInt64, memory: PhysicalMemory
  ) throws(Errno) {
    self.memory = memory
    self.topLevel = topLevel
    self.topBits = topBits
    self.pageSizes = pageSizes
    window = memory.window
    root = try memory.allocateTable(sizeShift: max(Frame.shift, topBits + 3))
  }

  /// Frees every table. No unit may walk them any more.
  func destroy() {
    freeBelow(root, level: topLevel)
    memory.freeTable(root, sizeShift: max(Frame.shift, topBits + 3))
  }

  private func freeBelow(_ table: PhysicalAddress, level: Int) {
    guard level > 0 else { return }
    for index in 0..<entryCount(level) {
      let entry = load(table, index)
      if Format.classify(entry, level: level) == .table {
        freeBelow(Format.address(entry), level: level - 1)
        memory.freeTable(Format.address(entry))
      }
    }
  }

  /// Of every table but the top one.
  private var entriesPerTable: Int { 1 << Format.indexBits }

  @inline(__always)
  func entryCount(_ level: Int) -> Int {
    Format.hasVariableTopTable && level == topLevel ? 1 &<< topBits : entriesPerTable
  }

  @inline(__always)
  func place(_ table: PhysicalAddress, _ index: Int) -> PhysicalAddress {
    PhysicalAddress(table.rawValue &+ UInt64(truncatingIfNeeded: index) &* 8)
  }

  @inline(__always)
  func load(_ table: PhysicalAddress, _ index: Int) -> UInt64 {
    // The table is ours, so it is there: no need to ask what the frame is.
    window.entry(place(table, index)).pointee.load(ordering: .relaxed)
  }

  @inline(__always)
  private func store(_ entry: UInt64, _ table: PhysicalAddress, _ index: Int) {
    window.store(entry, at: place(table, index))
  }

  /// log2 of what an entry spans.
  @inline(__always)
  private func itemShift(_ level: Int) -> UInt64 {
    UInt64(truncatingIfNeeded: Format.itemShift(level))
  }

  /// The entries that hold the leaf at `index`.
  @inline(__always)
  func entries(of leaf: UInt64, _ index: Int, _ level: Int) -> Range<Int> {
    let count = 1 << (Format.leafShift(leaf, level: level) - Format.itemShift(level))
    let first = index & ~(count - 1)
    return first..<first + count
  }

  @inline(__always)
  func index(_ address: UInt64, _ level: Int) -> Int {
    guard Format.hasVariableTopTable else {
      return Int(truncatingIfNeeded: Format.index(address, level: level))
    }
    return Int(truncatingIfNeeded: address &>> itemShift(level)) & (entryCount(level) &- 1)
  }

  // MARK: Mapping

  struct Mapping {
    var iova: UInt64
    var physical: UInt64
    var left: UInt64
    let permissions: Permissions
    let snoops: Bool
    /// Empty tables that a large page took the place of.
    var retired = RetiredTables()

    /// log2 of the largest of `sizes` that can come next: both addresses are multiples of it, and it
    /// is not more than what is left. generic_pt: pt_compute_best_pgsize()
    @inline(__always)
    func largestPage(of sizes: UInt64) -> Int? {
      // All sizes up to the smaller of the two bounds.
      let alignment = (iova | physical).trailingZeroBitCount
      let length = 63 &- left.leadingZeroBitCount
      let fitting = sizes & (UInt64(2) &<< UInt64(min(alignment, length)) &- 1)
      return fitting == 0 ? nil : 63 &- fitting.leadingZeroBitCount
    }

    /// How many bytes can come next as pages of 2^`shift` bytes, before a larger one of `sizes` would
    /// be the better choice or what is left is less than a page.
    @inline(__always)
    func run(ofPages shift: Int, sizes: UInt64) -> UInt64 {
      let whole = left & ~(1 &<< UInt64(shift) &- 1)
      let larger = sizes & ~(2 &<< UInt64(shift) &- 1)
      guard larger != 0 else { return whole }
      // Both addresses must reach a multiple of the larger size together, or never do.
      let mask = larger & (0 &- larger) &- 1
      guard (iova ^ physical) & mask == 0, iova & mask != 0 else { return whole }
      return min(whole, (0 &- iova) & mask)
    }

    @inline(__always)
    mutating func advance(by size: UInt64) {
      iova &+= size
      physical &+= size
      left &-= size
    }
  }

  /// Maps as much of `mapping` as possible and moves it forward by that.
  /// - Returns: nil when all is mapped; `.fileExists`-like overlap is `.addressInUse`.
  func map(_ mapping: inout Mapping) -> Errno? {
    map(&mapping, table: root, level: topLevel)
  }

  private func map(_ mapping: inout Mapping, table: PhysicalAddress, level: Int) -> Errno? {
    let sizes = pageSizes & Format.possibleSizes(level: level)
    var index = index(mapping.iova, level)
    let end = entryCount(level)
    while mapping.left > 0 && index < end {
      if let shift = mapping.largestPage(of: sizes) {
        let run = mapping.run(ofPages: shift, sizes: sizes) &>> itemShift(level)
        // A table ends with a page, whatever its size.
        let count = min(end &- index, Int(truncatingIfNeeded: run))
        guard mapLeaves(index, count, &mapping, shift: shift, table, level) else {
          return .addressInUse
        }
        index &+= count
      } else {
        guard level > 0 else { return .invalidArgument }
        if let error = mapBelow(index, &mapping, table, level) { return error }
        index &+= 1
      }
    }
    return nil
  }

  /// Fills `count` entries from `index` on with pages of 2^`shift` bytes, if they are free.
  ///
  /// One loop tests and one stores, both over entries and not over pages, because nearly always all
  /// entries are empty and a page is one entry: neither loop then has more to do than a load or a store.
  @inline(__always)
  private func mapLeaves(
    _ index: Int, _ count: Int, _ mapping: inout Mapping, shift: Int, _ table: PhysicalAddress,
    _ level: Int
  ) -> Bool {
    var used: UInt64 = 0
    var item = index
    while item < index &+ count {
      used |= load(table, item)
      item &+= 1
    }
    guard
      used == 0
        || isFree(index..<index &+ count, of: table, level, retired: &mapping.retired)
    else { return false }

    let itemShift = itemShift(level)
    let withinPage = 1 &<< UInt64(shift) &- 1
    let (physical, permissions, snoops) = (mapping.physical, mapping.permissions, mapping.snoops)
    item = 0
    while item < count {
      let distance = UInt64(truncatingIfNeeded: item) &<< itemShift & ~withinPage
      store(
        Format.makeLeaf(
          at: PhysicalAddress(physical &+ distance), level: level, shift: shift,
          permissions: permissions, snoops: snoops), table, index &+ item)
      item &+= 1
    }
    mapping.advance(by: UInt64(truncatingIfNeeded: count) &<< itemShift)
    return true
  }

  /// Maps what lies in the table that the entry at `index` names, or is made to name.
  private func mapBelow(
    _ index: Int, _ mapping: inout Mapping, _ table: PhysicalAddress, _ level: Int
  ) -> Errno? {
    let entry = load(table, index)
    switch Format.classify(entry, level: level) {
    case .table:
      return map(&mapping, table: Format.address(entry), level: level &- 1)
    case .leaf:
      return .addressInUse
    case .empty:
      let lower: PhysicalAddress
      do throws(Errno) { lower = try memory.allocateTable() } catch { return error }
      store(Format.makeTable(at: lower, level: level), table, index)
      guard let error = map(&mapping, table: lower, level: level &- 1) else { return nil }
      // Nothing was mapped in it when the failure came first.
      if isEmpty(lower) {
        store(0, table, index)
        mapping.retired.append(lower, isClear: true)
      }
      return error
    }
  }

  /// Whether the entries map nothing. Tables below them are then added to `retired`.
  @inline(never)
  private func isFree(
    _ entries: Range<Int>, of table: PhysicalAddress, _ level: Int,
    retired: inout RetiredTables
  ) -> Bool {
    let count = retired.count
    for index in entries {
      let entry = load(table, index)
      switch Format.classify(entry, level: level) {
      case .empty: continue
      case .table where retire(Format.address(entry), level: level - 1, to: &retired): continue
      default:
        retired.removeLast(retired.count - count)
        return false
      }
    }
    return true
  }

  /// Adds `table` and those below it to `retired`, if they map nothing.
  private func retire(
    _ table: PhysicalAddress, level: Int, to retired: inout RetiredTables
  ) -> Bool {
    guard isFree(0..<entriesPerTable, of: table, level, retired: &retired) else { return false }
    // Those below it are still named in it.
    retired.append(table, isClear: false)
    return true
  }

  // MARK: Unmapping

  /// Clears the entries of `length` bytes at `iova`, up to the first hole.
  func unmap(_ iova: UInt64, length: UInt64) -> UnmapResult {
    var result = UnmapResult()
    guard length > 0 else { return result }
    var cursor = iova
    let (last, overflow) = iova.addingReportingOverflow(length - 1)
    _ = unmap(
      &cursor, last: overflow ? .max : last, table: root, level: topLevel,
      retired: &result.retired)
    result.length = cursor &- iova
    return result
  }

  /// Moves `iova` behind what was unmapped.
  /// - Returns: false at a hole.
  private func unmap(
    _ iova: inout UInt64, last: UInt64, table: PhysicalAddress, level: Int,
    retired: inout RetiredTables
  ) -> Bool {
    var index = index(iova, level)
    let end = entryCount(level)
    while index < end {
      let entry = load(table, index)
      switch Format.classify(entry, level: level) {
      case .empty:
        return false
      case .leaf:
        guard let next = clearLeaf(entry, index, table, level, &iova) else { return false }
        index = next
      case .table:
        let (lower, first) = (Format.address(entry), iova)
        let goesOn = unmap(&iova, last: last, table: lower, level: level &- 1, retired: &retired)
        // All of a table that was unmapped without a hole is empty: no need to look.
        if iova &- first == 1 &<< itemShift(level) || isEmpty(lower) {
          store(0, table, index)
          retired.append(lower, isClear: true)
        }
        guard goesOn else { return false }
        index &+= 1
      }
      // Zero: the end of the address space was unmapped.
      if iova > last || iova == 0 { return true }
    }
    return true
  }

  /// Clears the entries of the page at `index` and moves `iova` behind it.
  /// - Returns: the index of the next page; nil when the range begins inside this one. Then nothing of
  ///   it is removed (generic_pt: __unmap_range()).
  @inline(__always)
  private func clearLeaf(
    _ leaf: UInt64, _ index: Int, _ table: PhysicalAddress, _ level: Int, _ iova: inout UInt64
  ) -> Int? {
    let shift = UInt64(truncatingIfNeeded: Format.leafShift(leaf, level: level))
    let size = 1 &<< shift
    guard iova & (size &- 1) == 0 else { return nil }
    // A page is a multiple of itself, so its first entry is this one.
    let end = index &+ 1 &<< Int(truncatingIfNeeded: shift &- itemShift(level))
    var item = index
    while item < end {
      store(0, table, item)
      item &+= 1
    }
    iova &+= size
    return end
  }

  /// Eight entries are looked at together: most tables that are asked about are empty.
  private func isEmpty(_ table: PhysicalAddress) -> Bool {
    // Mappings tend to begin at the start of a table and to end at its end.
    guard load(table, 0) == 0, load(table, entriesPerTable &- 1) == 0 else { return false }
    var index = 0
    while index < entriesPerTable {
      let one = load(table, index) | load(table, index &+ 1)
      let two = load(table, index &+ 2) | load(table, index &+ 3)
      let three = load(table, index &+ 4) | load(table, index &+ 5)
      let four = load(table, index &+ 6) | load(table, index &+ 7)
      if one | two | three | four != 0 { return false }
      index &+= 8
    }
    return true
  }

  // MARK: Looking up

  func physicalAddress(of iova: UInt64) -> PhysicalAddress? {
    var (table, level) = (root, topLevel)
    while true {
      let entry = load(table, index(iova, level))
      switch Format.classify(entry, level: level) {
      case .empty:
        return nil
      case .table:
        (table, level) = (Format.address(entry), level - 1)
      case .leaf:
        let mask = UInt64(1) << UInt64(Format.leafShift(entry, level: level)) - 1
        return PhysicalAddress(Format.address(entry).rawValue | iova & mask)
      }
    }
  }

  /// Calls `body` for every leaf entry, in order: several times for a page of several items. For
  /// dumps and tests.
  func forEachLeaf(_ body: (UInt64, UInt64, Int) -> Void) {
    forEachLeaf(table: root, level: topLevel, base: 0, body)
  }

  private func forEachLeaf(
    table: PhysicalAddress, level: Int, base: UInt64, _ body: (UInt64, UInt64, Int) -> Void
  ) {
    for index in 0..<entryCount(level) {
      let entry = load(table, index)
      let iova = base | UInt64(index) << UInt64(Format.itemShift(level))
      switch Format.classify(entry, level: level) {
      case .empty: continue
      case .leaf: body(iova, entry, level)
      case .table:
        forEachLeaf(table: Format.address(entry), level: level - 1, base: iova, body)
      }
    }
  }
}
