// SPDX-License-Identifier: Apache-2.0

// The page walk of hardware, for every format. The compiler specialises the walk for its format and
// inlines it into the unit that calls it.
//
// A walk returns an enum and does not throw, because faults are frequent and an enum costs nothing.
//
// Entries can have any value, and software can change them during the walk. A walk ends
// nevertheless: each step goes to a lower level, and the number of times that a walk reloads a
// changed entry is bounded.

/// The result of a walk.
enum WalkOutcome {
  case leaf(Translation)
  case fault(WalkFault)
}

/// The page that contains an address.
struct Translation: Equatable {
  /// The page's first byte.
  let physical: PhysicalAddress
  /// log2 of the page's size.
  let shift: Int
  /// The accesses that all entries of the walk allow. Writes are not among them while a write would
  /// have to set the leaf's dirty flag.
  let permissions: Permissions
}

/// Why a walk found no translation, independent of the architecture. `level` is the level of the
/// entry.
enum WalkFault: Equatable {
  /// The entry could not be loaded: its address has no memory.
  case inaccessible(level: Int)
  /// A reserved bit of the entry is set.
  case reserved(level: Int)
  /// The entry is not present.
  case absent(level: Int)
  /// The address in the entry has more bits than output addresses have.
  case outputTooWide(level: Int)
  /// The leaf's Access flag is clear, and only software sets the flag.
  case accessFlagClear(level: Int)
  /// The leaf is present, but allows only `allowed`.
  case denied(level: Int, allowed: Permissions)
  /// A flag of the entry could not be stored.
  case unwritable(level: Int)
  /// The input address has more bits than the table translates.
  case inputTooWide
}

enum RadixWalker<Format: WalkableFormat> {
  /// How many times a walk reloads entries that software changes during the walk. Each change is
  /// progress of the software, but the device needs an answer.
  @inline(__always)
  private static var retryLimit: Int { 64 }

  /// Translates `address` for `access`.
  /// - Parameters:
  ///   - address: an IOVA, or a first stage's output. Must not have more bits than the table
  ///     translates.
  ///   - rules: the reserved bits that the unit checks.
  ///   - memory: the memory that holds the table.
  @inline(__always)
  static func walk<Memory: TableMemory>(
    _ address: UInt64, _ root: TableRoot, access: Permissions, rules: borrowing EntryRules,
    memory: inout Memory
  ) -> WalkOutcome {
    var level = root.topLevel
    var entryAddress = rootEntryAddress(address, root)
    var grant = root.grant
    var attempts = 0
    while true {
      guard let entry = memory.load(entryAddress) else {
        return .fault(.inaccessible(level: level))
      }
      switch Format.classify(entry, level: level, root: root) {
      case .empty:
        return .fault(.absent(level: level))
      case .table:
        guard
          !Format.isMalformed(table: entry, for: address, level: level, root: root, rules: rules)
        else { return .fault(Format.malformedFault(level: level)) }
        let marked = Format.settingFlags(table: entry, root: root)
        if marked != entry {
          switch memory.update(entryAddress, from: entry, to: marked) {
          case .stored: break
          case .changed where attempts < retryLimit:
            attempts &+= 1
            continue
          case .changed, .failed: return .fault(.unwritable(level: level))
          }
        }
        grant &= Format.grant(entry, root: root)
        level = Format.nextLevel(entry, level: level)
        entryAddress = Format.entryAddress(
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
        let marked = Format.settingFlags(leaf: entry, writing: writing, root: root)
        // This repeats the update of a table entry: with one function for both, Swift 6.3.1 makes
        // Arm walks that take twice as long.
        if marked != entry {
          switch memory.update(entryAddress, from: entry, to: marked) {
          case .stored: break
          case .changed where attempts < retryLimit:
            attempts &+= 1
            continue
          case .changed, .failed: return .fault(.unwritable(level: level))
          }
        }
        // A cached translation must not allow a write that would have to set the dirty flag.
        if Format.settingFlags(leaf: marked, writing: true, root: root) != marked {
          allowed.subtract(.anyWrite)
        }
        let page = Format.page(entry, for: address, level: level, root: root)
        return .leaf(
          Translation(physical: page.physical, shift: page.shift, permissions: allowed))
      }
    }
  }

  /// Returns the address of the root table's entry for `address`.
  @inline(__always)
  private static func rootEntryAddress(_ address: UInt64, _ root: TableRoot) -> PhysicalAddress {
    guard Format.hasVariableTopTable else {
      return Format.entryAddress(address, level: root.topLevel, table: root.address)
    }
    let shift = UInt64(truncatingIfNeeded: Format.itemShift(root.topLevel))
    return PhysicalAddress(root.address.rawValue &+ (address &>> shift) &* 8)
  }
}

extension Translation {
  /// Returns the physical address of `iova`, which must be in the page.
  @inline(__always)
  func address(of iova: IOVA) -> PhysicalAddress { address(of: iova.rawValue) }

  /// Returns the physical address of `address`, an input address that must be in the page.
  @inline(__always)
  func address(of address: UInt64) -> PhysicalAddress {
    let mask = 1 &<< UInt64(truncatingIfNeeded: shift) &- 1
    return PhysicalAddress(physical.rawValue | address & mask)
  }
}
