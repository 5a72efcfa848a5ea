// SPDX-License-Identifier: Apache-2.0

// The dirty flags of leaves: which pages devices have written to.
//
// Hardware sets the flag in the entry that it walked. A page of several entries is dirty when any
// of them has the flag. A flag is cleared with an atomic exchange, so that a concurrent change by
// hardware is not lost. The caller invalidates afterwards, because a cached translation can say
// that the flag is set already.

extension RadixMapper {
  /// Calls `report` with the first address and the size of every dirty page in `range`. A page can
  /// begin before the range and end behind it. generic_pt: read_and_clear_dirty()
  /// - Parameter clearing: whether to clear the flags.
  func readDirty(
    _ range: ClosedRange<IOVA>, clearing: Bool, _ report: (IOVA, UInt64) -> Void
  ) {
    readDirty(
      range.lowerBound.rawValue...range.upperBound.rawValue, clearing: clearing, table: root,
      level: topLevel, base: 0, report)
  }

  private func readDirty(
    _ range: ClosedRange<UInt64>, clearing: Bool, table: PhysicalAddress, level: Int,
    base: UInt64, _ report: (IOVA, UInt64) -> Void
  ) {
    let shift = UInt64(Format.itemShift(level))
    let last = base &+ UInt64(truncatingIfNeeded: entryCount(level)) << shift &- 1
    let end = index(min(range.upperBound, last), level) + 1
    var index = index(max(range.lowerBound, base), level)
    while index < end {
      let entry = load(table, index)
      switch Format.classify(entry, level: level) {
      case .empty:
        index += 1
      case .table:
        readDirty(
          range, clearing: clearing, table: Format.address(entry), level: level - 1,
          base: base + UInt64(index) << shift, report)
        index += 1
      case .leaf:
        let entries = entries(of: entry, index, level)
        if entries.contains(where: { Format.isDirty(load(table, $0)) }) {
          report(IOVA(base + UInt64(entries.lowerBound) << shift), UInt64(entries.count) << shift)
          if clearing { entries.forEach { clearDirty(entryAddress(table, $0)) } }
        }
        index = entries.upperBound
      }
    }
  }

  private func clearDirty(_ address: PhysicalAddress) {
    while let entry = window.load(address), Format.isDirty(entry) {
      if window.exchange(address, expected: entry, desired: Format.cleaned(entry)) { return }
    }
  }

  /// Sets the dirty flag of the page at `iova`, as hardware does for a write. generic_pt:
  /// set_dirty()
  /// - Returns: whether a page is mapped there.
  func setDirty(_ iova: IOVA) -> Bool {
    var (table, level) = (root, topLevel)
    while true {
      let address = entryAddress(table, index(iova.rawValue, level))
      guard let entry = window.load(address) else { return false }
      switch Format.classify(entry, level: level) {
      case .empty:
        return false
      case .table:
        (table, level) = (Format.address(entry), level - 1)
      case .leaf:
        if window.exchange(address, expected: entry, desired: Format.dirtied(entry)) { return true }
      }
    }
  }
}
