// SPDX-License-Identifier: Apache-2.0

// The driver's operations on a page table: map, unmap, look up. They follow the kernel's
// generic_pt. A map uses the largest pages that fit. An unmap removes whole pages, so it can remove
// more than was asked for, and it stops at the first hole.
//
// Hardware walks the table meanwhile. Each entry is therefore stored with one store, a new table is
// linked only when it is complete, and a table that was unlinked is returned to the caller, which
// frees it when no walk can still be in it. Unlike generic_pt, an unmap also unlinks the tables
// that it leaves empty, because the memory for tables has a limit that all clients share.
//
// The caller serialises changes of one table.

internal import Synchronization
internal import SystemPackage

/// The result of an unmap.
package struct UnmapResult {
  /// Bytes from the start of the range to the first hole.
  package var length: UInt64 = 0
  /// Tables that became unreachable. The caller frees them after the invalidation.
  package var retired = RetiredTables()
}

struct RadixMapper<Format: WalkableFormat> {
  let window: FrameWindow
  let root: PhysicalAddress
  let topLevel: Int
  /// Bit n: pages of 2^n bytes may be used.
  let pageSizes: UInt64
  private let memory: PhysicalMemory
  /// log2 of the number of entries in the top table, which differs from other tables in some
  /// formats.
  private let topBits: Int

  /// Makes an empty table.
  /// - Parameter topBits: log2 of the number of entries in the top table, for formats with a
  ///   variable top table.
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

  /// Makes a table with one level more, whose first entry is the root of `table`, so that the table
  /// translates more addresses (generic_pt: increase_top()). Hardware can walk the old root until
  /// it is given the new one, because both translate the same.
  init(above table: Self) throws(Errno) {
    try self.init(
      topLevel: table.topLevel + 1, pageSizes: table.pageSizes, memory: table.memory)
    window.store(Format.makeTable(at: table.root, level: topLevel), at: root)
  }

  /// Frees every table. No unit may still walk them.
  func destroy() {
    freeTables(below: root, level: topLevel)
    memory.freeTable(root, sizeShift: max(Frame.shift, topBits + 3))
  }

  private func freeTables(below table: PhysicalAddress, level: Int) {
    guard level > 0 else { return }
    for index in 0..<entryCount(level) {
      let entry = load(table, index)
      if Format.classify(entry, level: level) == .table {
        freeTables(below: Format.address(entry), level: level - 1)
        memory.freeTable(Format.address(entry))
      }
    }
  }

  // MARK: Entries

  /// The number of entries in every table but the top one.
  private var entriesPerTable: Int { 1 << Format.indexBits }

  @inline(__always)
  func entryCount(_ level: Int) -> Int {
    Format.hasVariableTopTable && level == topLevel ? 1 &<< topBits : entriesPerTable
  }

  @inline(__always)
  func entryAddress(_ table: PhysicalAddress, _ index: Int) -> PhysicalAddress {
    PhysicalAddress(table.rawValue &+ UInt64(truncatingIfNeeded: index) &* 8)
  }

  @inline(__always)
  func load(_ table: PhysicalAddress, _ index: Int) -> UInt64 {
    // The table was allocated by this mapper, so its frame is mapped and needs no test.
    window.entry(entryAddress(table, index)).pointee.load(ordering: .relaxed)
  }

  @inline(__always)
  private func store(_ entry: UInt64, _ table: PhysicalAddress, _ index: Int) {
    window.store(entry, at: entryAddress(table, index))
  }

  /// Returns log2 of the bytes that an entry of a table at `level` spans.
  @inline(__always)
  private func itemShift(_ level: Int) -> UInt64 {
    UInt64(truncatingIfNeeded: Format.itemShift(level))
  }

  /// Returns the entries that hold the same leaf as entry `index`.
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

  /// Maps as much of `request` as possible and moves the request forward by that.
  /// - Returns: `nil` when everything is mapped. `.addressInUse` where the range overlaps a
  ///   mapping, `.invalidArgument` where no page size fits, `.noMemory` when a table cannot be
  ///   allocated.
  func map(_ request: inout MapRequest) -> Errno? {
    map(&request, table: root, level: topLevel)
  }

  private func map(_ request: inout MapRequest, table: PhysicalAddress, level: Int) -> Errno? {
    let sizes = pageSizes & Format.possibleSizes(level: level)
    var index = index(request.iova.rawValue, level)
    let end = entryCount(level)
    while request.remaining > 0 && index < end {
      if let shift = request.largestPage(of: sizes) {
        let run = request.run(ofPages: shift, sizes: sizes) &>> itemShift(level)
        // The end of a table is the end of a page, whatever the page's size.
        let count = min(end &- index, Int(truncatingIfNeeded: run))
        guard mapLeaves(index, count, &request, shift: shift, table, level) else {
          return .addressInUse
        }
        index &+= count
      } else {
        guard level > 0 else { return .invalidArgument }
        if let error = mapBelow(index, &request, table, level) { return error }
        index &+= 1
      }
    }
    return nil
  }

  /// Fills `count` entries from `index` on with pages of 2^`shift` bytes, if the entries map
  /// nothing.
  ///
  /// One loop tests the entries and another stores them. Both are over entries and not over pages:
  /// nearly always all entries are empty and a page is one entry, so each loop does only a load or
  /// a store.
  @inline(__always)
  private func mapLeaves(
    _ index: Int, _ count: Int, _ request: inout MapRequest, shift: Int, _ table: PhysicalAddress,
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
        || isFree(index..<index &+ count, of: table, level, retired: &request.retired)
    else { return false }

    let itemShift = itemShift(level)
    let withinPage = 1 &<< UInt64(shift) &- 1
    let physical = request.physical.rawValue
    let (permissions, snoops) = (request.permissions, request.snoops)
    item = 0
    while item < count {
      let distance = UInt64(truncatingIfNeeded: item) &<< itemShift & ~withinPage
      store(
        Format.makeLeaf(
          at: PhysicalAddress(physical &+ distance), level: level, shift: shift,
          permissions: permissions, snoops: snoops), table, index &+ item)
      item &+= 1
    }
    request.advance(by: UInt64(truncatingIfNeeded: count) &<< itemShift)
    return true
  }

  /// Maps the part of `request` that entry `index` spans, in the table below it. Makes that table
  /// if there is none.
  private func mapBelow(
    _ index: Int, _ request: inout MapRequest, _ table: PhysicalAddress, _ level: Int
  ) -> Errno? {
    let entry = load(table, index)
    switch Format.classify(entry, level: level) {
    case .table:
      return map(&request, table: Format.address(entry), level: level &- 1)
    case .leaf:
      return .addressInUse
    case .empty:
      let lower: PhysicalAddress
      do throws(Errno) { lower = try memory.allocateTable() } catch { return error }
      store(Format.makeTable(at: lower, level: level), table, index)
      guard let error = map(&request, table: lower, level: level &- 1) else { return nil }
      // The new table is empty when the error came before anything was mapped in it.
      if isEmpty(lower) {
        store(0, table, index)
        request.retired.append(lower, isClear: true)
      }
      return error
    }
  }

  /// Returns whether `entries` map nothing. Adds the tables below them to `retired` if so.
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

  /// Adds `table` and the tables below it to `retired`, if they map nothing.
  private func retire(
    _ table: PhysicalAddress, level: Int, to retired: inout RetiredTables
  ) -> Bool {
    guard isFree(0..<entriesPerTable, of: table, level, retired: &retired) else { return false }
    // The table still holds the entries of the tables below it.
    retired.append(table, isClear: false)
    return true
  }

  // MARK: Unmapping

  /// Clears the entries of the `length` bytes at `iova`, up to the first hole.
  func unmap(_ iova: IOVA, length: UInt64) -> UnmapResult {
    var result = UnmapResult()
    guard length > 0 else { return result }
    var cursor = iova.rawValue
    let (last, overflow) = cursor.addingReportingOverflow(length - 1)
    _ = unmap(
      &cursor, last: overflow ? .max : last, table: root, level: topLevel,
      retired: &result.retired)
    result.length = cursor &- iova.rawValue
    return result
  }

  /// Unmaps from `iova` on, and moves `iova` to the first address behind what was unmapped.
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
        let continues = unmap(&iova, last: last, table: lower, level: level &- 1, retired: &retired)
        // A table that was unmapped as a whole is empty and needs no test.
        if iova &- first == 1 &<< itemShift(level) || isEmpty(lower) {
          store(0, table, index)
          retired.append(lower, isClear: true)
        }
        guard continues else { return false }
        index &+= 1
      }
      // 0: the end of the address space was unmapped.
      if iova > last || iova == 0 { return true }
    }
    return true
  }

  /// Clears the entries of the page that begins at entry `index`, and moves `iova` behind the page.
  /// - Returns: the index of the next page. `nil`, with nothing cleared, when `iova` is inside the
  ///   page (generic_pt: __unmap_range()).
  @inline(__always)
  private func clearLeaf(
    _ leaf: UInt64, _ index: Int, _ table: PhysicalAddress, _ level: Int, _ iova: inout UInt64
  ) -> Int? {
    let shift = UInt64(truncatingIfNeeded: Format.leafShift(leaf, level: level))
    let size = 1 &<< shift
    guard iova & (size &- 1) == 0 else { return nil }
    // A page is aligned to its size, so `index` is its first entry.
    let end = index &+ 1 &<< Int(truncatingIfNeeded: shift &- itemShift(level))
    var item = index
    while item < end {
      store(0, table, item)
      item &+= 1
    }
    iova &+= size
    return end
  }

  /// Returns whether all entries are 0. Sixteen entries are tested together, because most tables
  /// that are tested are empty.
  private func isEmpty(_ table: PhysicalAddress) -> Bool {
    // Mappings tend to begin at the start of a table and to end at its end.
    guard load(table, 0) == 0, load(table, entriesPerTable &- 1) == 0 else { return false }
    var index = 0
    while index < entriesPerTable {
      let low = fourEntries(table, index) | fourEntries(table, index &+ 4)
      let high = fourEntries(table, index &+ 8) | fourEntries(table, index &+ 12)
      if low | high != 0 { return false }
      index &+= 16
    }
    return true
  }

  /// Returns the bits that are set in any of the four entries from `index` on.
  @inline(__always)
  private func fourEntries(_ table: PhysicalAddress, _ index: Int) -> UInt64 {
    (load(table, index) | load(table, index &+ 1))
      | (load(table, index &+ 2) | load(table, index &+ 3))
  }

  // MARK: Looking up

  /// Returns the physical address that `iova` is mapped to.
  func physicalAddress(of iova: IOVA) -> PhysicalAddress? {
    let iova = iova.rawValue
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

  /// Calls `body` with the address, the entry and the level of every leaf entry, in order. A page
  /// of several entries is reported several times. For dumps and tests.
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
