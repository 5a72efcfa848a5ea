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
package struct Unmapped {
  /// Bytes from the start of the range to the first hole.
  package var length: UInt64 = 0
  /// Tables that became unreachable; to be freed after the invalidation.
  package var retired = RetiredTables()
}

struct RadixMapper<Format: PageTableFormat> {
  private let memory: PhysicalMemory
  let window: FrameWindow
  let root: PhysicalAddress
  let topLevel: Int
  /// Bit n: pages of 2^n bytes may be used.
  let pageSizes: UInt64

  /// An empty table.
  init(topLevel: Int, pageSizes: UInt64, memory: PhysicalMemory) throws(Errno) {
    self.memory = memory
    self.topLevel = topLevel
    self.pageSizes = pageSizes
    window = memory.window
    root = try memory.allocateTable()
  }

  /// Frees every table. No unit may walk them any more.
  func destroy() { free(root, level: topLevel) }

  private func free(_ table: PhysicalAddress, level: Int) {
    if level > 0 {
      for index in 0..<entriesPerTable {
        let entry = load(table, index)
        if Format.classify(entry, level: level) == .table {
          free(Format.address(entry), level: level - 1)
        }
      }
    }
    memory.freeTable(table)
  }

  var entriesPerTable: Int { 1 << Format.indexBits }

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
  private func store(_ entry: UInt64, _ table: PhysicalAddress, _ indexes: Range<Int>) {
    for index in indexes { window.store(entry, at: place(table, index)) }
  }

  @inline(__always)
  private func store(_ entry: UInt64, _ table: PhysicalAddress, _ index: Int) {
    window.store(entry, at: place(table, index))
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
    Int(truncatingIfNeeded: Format.index(address, level: level))
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
      let fitting = sizes & (UInt64(2) << UInt64(min(alignment, length)) &- 1)
      return fitting == 0 ? nil : 63 &- fitting.leadingZeroBitCount
    }

    @inline(__always)
    mutating func advance(by size: UInt64) {
      iova &+= size
      physical &+= size
      left -= size
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
    while mapping.left > 0 && index < entriesPerTable {
      let entry = load(table, index)
      if let shift = mapping.largestPage(of: sizes) {
        let entries = index..<index + 1 << (shift - Format.itemShift(level))
        guard isFree(entries, of: table, level, retired: &mapping.retired) else {
          return .addressInUse
        }
        store(
          Format.makeLeaf(
            at: PhysicalAddress(mapping.physical), level: level, shift: shift,
            permissions: mapping.permissions, snoops: mapping.snoops), table, entries)
        mapping.advance(by: 1 << UInt64(shift))
        index = entries.upperBound
      } else {
        guard level > 0 else { return .invalidArgument }
        switch Format.classify(entry, level: level) {
        case .table:
          if let error = map(&mapping, table: Format.address(entry), level: level - 1) {
            return error
          }
        case .leaf:
          return .addressInUse
        case .empty:
          let lower: PhysicalAddress
          do throws(Errno) { lower = try memory.allocateTable() } catch { return error }
          store(Format.makeTable(at: lower, level: level), table, index)
          if let error = map(&mapping, table: lower, level: level - 1) {
            // Nothing was mapped in it when the failure came first.
            if isEmpty(lower) {
              store(0, table, index)
              mapping.retired.append(lower)
            }
            return error
          }
        }
        index += 1
      }
    }
    return nil
  }

  /// Whether the entries map nothing. Tables below them are then added to `retired`.
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
    retired.append(table)
    return true
  }

  // MARK: Unmapping

  /// Clears the entries of `length` bytes at `iova`, up to the first hole.
  func unmap(_ iova: UInt64, length: UInt64) -> Unmapped {
    var result = Unmapped()
    guard length > 0 else { return result }
    var cursor = iova
    let (last, overflow) = iova.addingReportingOverflow(length - 1)
    _ = unmap(
      &cursor, last: overflow ? .max : last, table: root, level: topLevel, result: &result)
    return result
  }

  /// - Returns: false at a hole.
  private func unmap(
    _ iova: inout UInt64, last: UInt64, table: PhysicalAddress, level: Int,
    result: inout Unmapped
  ) -> Bool {
    var index = index(iova, level)
    while index < entriesPerTable {
      let entry = load(table, index)
      switch Format.classify(entry, level: level) {
      case .empty:
        return false
      case .leaf:
        let size = UInt64(1) << UInt64(Format.leafShift(entry, level: level))
        // A range that begins inside a page removes nothing of it (generic_pt: __unmap_range()).
        guard iova & (size - 1) == 0 else { return false }
        let entries = entries(of: entry, index, level)
        store(0, table, entries)
        result.length += size
        iova &+= size
        index = entries.upperBound
      case .table:
        let lower = Format.address(entry)
        let goesOn = unmap(&iova, last: last, table: lower, level: level - 1, result: &result)
        if isEmpty(lower) {
          store(0, table, index)
          result.retired.append(lower)
        }
        guard goesOn else { return false }
        index += 1
      }
      // Zero: the end of the address space was unmapped.
      if iova > last || iova == 0 { return true }
    }
    return true
  }

  private func isEmpty(_ table: PhysicalAddress) -> Bool {
    // Mappings tend to begin at the start of a table and to end at its end.
    guard load(table, 0) == 0, load(table, entriesPerTable - 1) == 0 else { return false }
    for index in 1..<entriesPerTable - 1 where load(table, index) != 0 { return false }
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
    for index in 0..<entriesPerTable {
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
