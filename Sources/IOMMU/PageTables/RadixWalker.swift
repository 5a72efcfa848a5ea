// The hardware's page walk, for every format.
//
// It returns an enum and never throws: a fault is an everyday result, and costs nothing to report.
// Everything here is specialised for its format and inlined into the unit that calls it.
//
// Entries may be anything at all, and may change while they are looked at. A walk ends because every
// step goes to a lower level, and looks again at an entry that changed under it only so many times.

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
  /// What all entries on the way allow; without `writes` while the dirty flag is still clear.
  let permissions: Permissions
}

/// Why there is no translation, in no vendor's words. A level is that of the entry concerned.
enum WalkFault: Equatable {
  /// No memory at the table at `level`.
  case inaccessible(level: Int)
  /// A reserved bit is set in an entry at `level`.
  case reserved(level: Int)
  /// The entry at `level` is not present.
  case absent(level: Int)
  /// The entry at `level` holds an address that is wider than addresses are.
  case outputTooWide(level: Int)
  /// The leaf at `level` was never used, and only software may change that.
  case accessFlagClear(level: Int)
  /// Present, but the access is not allowed: this is.
  case denied(level: Int, allowed: Permissions)
  /// A flag of the entry at `level` could not be stored.
  case unwritable(level: Int)
  /// The address is wider than the table is.
  case inputTooWide
}

enum RadixWalker<Format: WalkableFormat> {
  /// How often a walk looks again at an entry that software changes under it. Each time is progress of
  /// the software's, but hardware that never answers is of no use to anybody.
  @inline(__always)
  private static var patience: Int { 64 }

  /// Translates `address` for `access`. The caller has checked that the address is as narrow as the
  /// table is.
  @inline(__always)
  static func walk<Memory: TableMemory>(
    _ address: UInt64, _ root: TableRoot, access: Permissions, rules: borrowing EntryRules,
    memory: inout Memory
  ) -> WalkOutcome {
    var level = root.topLevel
    var place = top(address, root)
    var grant = root.grant
    var attempts = 0
    while true {
      guard let entry = memory.load(place) else { return .fault(.inaccessible(level: level)) }
      switch Format.classify(entry, level: level, root: root) {
      case .empty:
        return .fault(.absent(level: level))
      case .table:
        guard
          !Format.isMalformed(table: entry, for: address, level: level, root: root, rules: rules)
        else { return .fault(Format.malformedFault(level: level)) }
        let used = Format.settingFlags(table: entry, root: root)
        if used != entry {
          switch memory.update(place, from: entry, to: used) {
          case .stored: break
          case .changed where attempts < patience:
            attempts &+= 1
            continue
          case .changed, .failed: return .fault(.unwritable(level: level))
          }
        }
        grant &= Format.grant(entry, root: root)
        level = Format.nextLevel(entry, level: level)
        place = Format.entryAddress(
          address, level: level, table: Format.table(entry, root: root))
      case .leaf:
        guard
          !Format.isMalformed(leaf: entry, for: address, level: level, root: root, rules: rules)
        else { return .fault(Format.malformedFault(level: level)) }
        guard !Format.isAccessFlagFault(entry, root: root) else {
          return .fault(.accessFlagClear(level: level))
        }
        var allowed = Format.permissions(entry, grant: grant, root: root)
        guard allowed.isSuperset(of: access) else {
          return .fault(.denied(level: level, allowed: allowed))
        }
        let writing = !access.isDisjoint(with: .anyWrite)
        let used = Format.settingFlags(leaf: entry, writing: writing, root: root)
        // Not one function with the above: Swift 6.3.1 then takes twice as long for Arm's walks.
        if used != entry {
          switch memory.update(place, from: entry, to: used) {
          case .stored: break
          case .changed where attempts < patience:
            attempts &+= 1
            continue
          case .changed, .failed: return .fault(.unwritable(level: level))
          }
        }
        // A cached copy must not allow a write that would have to set the flag.
        if Format.settingFlags(leaf: used, writing: true, root: root) != used {
          allowed.subtract(.anyWrite)
        }
        let page = Format.page(entry, for: address, level: level, root: root)
        return .leaf(
          Translation(physical: page.physical, shift: page.shift, permissions: allowed))
      }
    }
  }

  /// Where the walk begins.
  @inline(__always)
  private static func top(_ address: UInt64, _ root: TableRoot) -> PhysicalAddress {
    guard Format.hasVariableTopTable else {
      return Format.entryAddress(address, level: root.topLevel, table: root.address)
    }
    let shift = UInt64(truncatingIfNeeded: Format.itemShift(root.topLevel))
    return PhysicalAddress(root.address.rawValue &+ (address &>> shift) &* 8)
  }
}

extension Translation {
  /// The physical address of `address`, an input address in the page.
  @inline(__always)
  func address(of address: UInt64) -> PhysicalAddress {
    let mask = 1 &<< UInt64(truncatingIfNeeded: shift) &- 1
    return PhysicalAddress(physical.rawValue | address & mask)
  }
}
