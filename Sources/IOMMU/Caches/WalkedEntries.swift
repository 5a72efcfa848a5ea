// SPDX-License-Identifier: Apache-2.0

// How a walk fills the paging-structure cache, and how a later walk starts from a cached table.

/// The entries that one walk loaded, from its root table downwards.
struct WalkedEntries: WalkObserver {
  private var addresses = InlineArray<6, UInt64>(repeating: 0)
  private var entries = InlineArray<6, UInt64>(repeating: 0)
  private var count = 0

  @inline(__always)
  mutating func record(_ entry: UInt64?, at address: PhysicalAddress) {
    guard let entry else { return }
    // A walk loads an entry again when software changed the entry during the walk.
    if count > 0, addresses[count &- 1] == address.rawValue { count &-= 1 }
    guard count < 6 else { return }
    addresses[count] = address.rawValue
    entries[count] = entry
    count &+= 1
  }

  /// Calls `body` for every table below `root` that the walk reached.
  @inline(__always)
  func forEachTable<Format: WalkableFormat>(
    of _: Format.Type, from root: TableRoot, _ body: (PagingStructureCache.CachedTable) -> Void
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
  /// Makes a walk from this root start at a lower table that the cache holds.
  mutating func begin(at cached: PagingStructureCache.CachedTable) {
    address = cached.table
    topLevel = cached.level
    grant = cached.grant
  }
}
