// Which pages were written: the dirty flags of leaves.
//
// Hardware sets a flag in the entry it walked; a page of several entries was written when any of
// them says so. A flag is cleared by an exchange, so that what hardware changes meanwhile is not lost;
// the caller invalidates afterwards, for cached copies may say that the flag is set already.

extension RadixMapper {
  /// Calls `report` with the first address and the size of every page in the range that was written
  /// to; it may begin before the range and end behind it.
  /// generic_pt: read_and_clear_dirty()
  func readDirty(
    _ range: ClosedRange<UInt64>, clearing: Bool, _ report: (UInt64, UInt64) -> Void
  ) {
    readDirty(range, clearing: clearing, table: root, level: topLevel, base: 0, report)
  }

  private func readDirty(
    _ range: ClosedRange<UInt64>, clearing: Bool, table: PhysicalAddress, level: Int,
    base: UInt64, _ report: (UInt64, UInt64) -> Void
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
          report(base + UInt64(entries.lowerBound) << shift, UInt64(entries.count) << shift)
          if clearing { entries.forEach { clearDirty(place(table, $0)) } }
        }
        index = entries.upperBound
      }
    }
  }

  private func clearDirty(_ place: PhysicalAddress) {
    while let entry = window.load(place), Format.isDirty(entry) {
      if window.exchange(place, expected: entry, desired: Format.cleaned(entry)) { return }
    }
  }

  /// Sets the dirty flag as hardware would for a write to `iova`.
  /// - Returns: whether anything is mapped there. generic_pt: set_dirty()
  func setDirty(_ iova: UInt64) -> Bool {
    var (table, level) = (root, topLevel)
    while true {
      let place = place(table, index(iova, level))
      guard let entry = window.load(place) else { return false }
      switch Format.classify(entry, level: level) {
      case .empty:
        return false
      case .table:
        (table, level) = (Format.address(entry), level - 1)
      case .leaf:
        if window.exchange(place, expected: entry, desired: Format.dirtied(entry)) { return true }
      }
    }
  }
}
