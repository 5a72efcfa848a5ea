// What a walk went through, for the paging-structure cache, and a walk that begins in the middle.

/// The entries of one walk, from the table where it began.
struct WalkSteps: WalkWatcher {
  private var places = InlineArray<6, UInt64>(repeating: 0)
  private var entries = InlineArray<6, UInt64>(repeating: 0)
  private var count = 0

  @inline(__always)
  mutating func note(_ place: PhysicalAddress, _ entry: UInt64?) {
    guard let entry else { return }
    // An entry that changed under the walk is looked at again.
    if count > 0, places[count &- 1] == place.rawValue { count &-= 1 }
    guard count < 6 else { return }
    places[count] = place.rawValue
    entries[count] = entry
    count &+= 1
  }

  /// Every table that the walk came to behind `root`.
  @inline(__always)
  func forEachTable<Format: WalkableFormat>(
    of _: Format.Type, from root: TableRoot, _ body: (PagingStructureCache.Step) -> Void
  ) {
    var grant = root.grant
    for index in 0..<max(0, count - 1) {
      grant &= Format.grant(entries[index], root: root)
      body(
        .init(
          table: Format.table(entries[index], root: root), level: root.topLevel - index - 1,
          grant: grant))
    }
  }
}

extension TableRoot {
  /// The same table, from the middle of a walk on.
  mutating func begin(at step: PagingStructureCache.Step) {
    address = step.table
    topLevel = step.level
    grant = step.grant
  }
}
