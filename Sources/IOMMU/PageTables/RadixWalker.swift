// The hardware's page walk, for every format.
//
// It returns an enum and never throws: a fault is an everyday result, and costs nothing to report.
// Everything here is specialised for its format and inlined into the unit that calls it.

/// Where a walk ended.
enum WalkOutcome {
  case leaf(Translation)
  case fault(WalkFault)
}

/// The page an address is in.
struct Translation: Equatable {
  /// The page's first byte.
  let physical: PhysicalAddress
  /// log2 of its size.
  let shift: Int
  /// What all entries on the way allow; without `write` while the dirty flag is still clear.
  let permissions: Permissions
}

/// Why there is no translation, in no vendor's words.
enum WalkFault: Equatable {
  /// No memory at the table at `level`.
  case inaccessible(level: Int)
  /// A reserved bit is set in an entry at `level`.
  case reserved(level: Int)
  /// The entry at `level` is not present.
  case absent(level: Int)
  /// Present, but the access is not allowed.
  case denied
}

enum RadixWalker<Format: PageTableFormat> {
  /// Translates `address` for `access`. The caller has checked that the address is as narrow as the
  /// table is.
  @inline(__always)
  static func walk<Memory: EntryMemory>(
    _ address: UInt64, _ root: TableRoot, access: Permissions, rules: borrowing EntryRules,
    memory: inout Memory
  ) -> WalkOutcome {
    var table = root.address
    var level = root.topLevel
    var allowed: Permissions = [.read, .write]
    while true {
      let place = Format.entryAddress(address, level: level, table: table)
      guard let entry = memory.load(place) else { return .fault(.inaccessible(level: level)) }
      switch Format.classify(entry, level: level) {
      case .empty:
        return .fault(.absent(level: level))
      case .table:
        // SAFETY: a level is at most 5.
        guard entry & rules.reservedInTable[unchecked: level] == 0 else {
          return .fault(.reserved(level: level))
        }
        allowed.formIntersection(Format.permissions(entry))
        if root.updatesFlags, entry & Format.accessed == 0 {
          // When software changed the entry meanwhile, look at it again.
          guard
            memory.exchange(place, expected: entry, desired: entry | Format.accessed)
          else { continue }
        }
        table = Format.address(entry)
        level &-= 1
      case .leaf:
        guard entry & rules.reservedInLeaf[unchecked: level] == 0 else {
          return .fault(.reserved(level: level))
        }
        allowed.formIntersection(Format.permissions(entry))
        guard allowed.isSuperset(of: access) else { return .fault(.denied) }
        if root.updatesFlags {
          var flags = Format.accessed
          if access.contains(.write) { flags |= Format.dirty }
          if entry & flags != flags {
            guard memory.exchange(place, expected: entry, desired: entry | flags) else {
              continue
            }
          }
          // A cached copy must not allow a write that would have to set the flag.
          if (entry | flags) & Format.dirty == 0 { allowed.remove(.write) }
        }
        return .leaf(
          Translation(
            physical: Format.address(entry), shift: Format.leafShift(entry, level: level),
            permissions: allowed))
      }
    }
  }
}
