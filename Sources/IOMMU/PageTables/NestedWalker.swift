// Two-stage translation: a guest's table, whose addresses are the guest's, on top of a table that says
// where the guest's memory is. Every entry of the first that is read or marked as used is
// translated by the second, and so is the result.
//
// Both stages are the same walker; between them is only the memory it walks in, `NestedTables`.

/// The second stage of a translation.
struct SecondStage: BitwiseCopyable {
  let root: TableRoot
  /// The highest address that it can translate.
  let lastAddress: UInt64
}

/// Where a two-stage walk ended.
enum NestedOutcome {
  /// Of the first stage's input: the smaller of the two pages, and what both stages allow; and the
  /// page that the first stage alone has.
  case leaf(Translation, first: Translation)
  case fault(NestedFault)
}

/// Which stage said no.
enum NestedFault: Equatable {
  case first(WalkFault)
  /// - Parameters:
  ///   - address: the first stage's output that the second was to translate.
  ///   - use: what it is the address of.
  case second(WalkFault, address: UInt64, use: IntermediateUse)
}

/// What an output of the first stage is used for.
enum IntermediateUse: Equatable {
  /// To read, or to mark as used, the first-stage entry at `level`.
  case entry(level: Int)
  case flags(level: Int)
  /// It is where the data is.
  case data
}

/// A guest's tables, at addresses of the guest's.
struct NestedTables<Second: WalkableFormat, Guest: EntryMemory, Tables: EntryMemory>: EntryMemory {
  struct Failure {
    let fault: WalkFault
    let address: UInt64
    let isUpdate: Bool
  }

  private let stage: SecondStage
  private let rules: UnsafePointer<EntryRules>
  private(set) var guest: Guest
  private var tables: Tables
  /// Why the second stage refused the last access, if it did.
  private(set) var failure: Failure?

  /// - Parameter rules: valid as long as this is.
  @inline(__always)
  init(
    _ stage: SecondStage, rules: UnsafePointer<EntryRules>, guest: Guest, tables: Tables
  ) {
    self.stage = stage
    self.rules = rules
    self.guest = guest
    self.tables = tables
  }

  /// The second stage's answer for an address of the guest's.
  @inline(__always)
  mutating func translate(_ address: UInt64, access: Permissions) -> WalkOutcome {
    guard address <= stage.lastAddress else { return .fault(.beyond) }
    return RadixWalker<Second>.walk(
      address, stage.root, access: access, rules: rules.pointee, memory: &tables)
  }

  @inline(__always)
  mutating func load(_ address: PhysicalAddress) -> UInt64? {
    guard let physical = place(address, access: .read) else { return nil }
    return guest.load(physical)
  }

  @inline(__always)
  mutating func update(
    _ address: PhysicalAddress, from old: UInt64, to new: UInt64
  ) -> EntryUpdate {
    guard let physical = place(address, access: .write) else { return .failed }
    return guest.update(physical, from: old, to: new)
  }

  @inline(__always)
  private mutating func place(
    _ address: PhysicalAddress, access: Permissions
  ) -> PhysicalAddress? {
    switch translate(address.rawValue, access: access) {
    case .leaf(let page):
      return page.place(of: address.rawValue)
    case .fault(let fault):
      failure = Failure(
        fault: fault, address: address.rawValue, isUpdate: access.contains(.write))
      return nil
    }
  }
}

enum NestedWalker<First: WalkableFormat, Second: WalkableFormat> {
  /// Translates `address` for `access` by both stages. The caller has checked that the address is as
  /// narrow as the first stage's table is.
  @inline(__always)
  static func walk<Guest: EntryMemory, Tables: EntryMemory>(
    _ address: UInt64, _ root: TableRoot, access: Permissions, rules: borrowing EntryRules,
    tables: inout NestedTables<Second, Guest, Tables>
  ) -> NestedOutcome {
    let first: Translation
    switch RadixWalker<First>.walk(
      address, root, access: access, rules: rules, memory: &tables)
    {
    case .leaf(let page): first = page
    case .fault(let fault): return .fault(explain(fault, tables.failure))
    }
    let intermediate = first.place(of: address).rawValue
    switch tables.translate(intermediate, access: Second.demand(of: access)) {
    case .leaf(let second):
      return .leaf(combine(first, second, intermediate), first: first)
    case .fault(let fault):
      return .fault(.second(fault, address: intermediate, use: .data))
    }
  }

  /// The page that both stages give: as small as the smaller, with the rights of both.
  @inline(__always)
  private static func combine(
    _ first: Translation, _ second: Translation, _ intermediate: UInt64
  ) -> Translation {
    let shift = min(first.shift, second.shift)
    let place = second.place(of: intermediate).rawValue
    return Translation(
      physical: PhysicalAddress(place & ~(1 &<< UInt64(truncatingIfNeeded: shift) &- 1)),
      shift: shift,
      permissions: first.permissions.intersection(Second.rights(of: second.permissions)))
  }

  /// The first stage only knows that an entry could not be had; the second knows why.
  @inline(__always)
  private static func explain(
    _ fault: WalkFault, _ failure: NestedTables<Second, some EntryMemory, some EntryMemory>.Failure?
  ) -> NestedFault {
    guard let failure else { return .first(fault) }
    switch fault {
    case .inaccessible(let level):
      return .second(failure.fault, address: failure.address, use: .entry(level: level))
    case .unwritable(let level) where failure.isUpdate:
      return .second(failure.fault, address: failure.address, use: .flags(level: level))
    default:
      return .first(fault)
    }
  }
}

extension Translation {
  /// Where `address`, which is in the page, is.
  @inline(__always)
  func place(of address: UInt64) -> PhysicalAddress {
    let mask = 1 &<< UInt64(truncatingIfNeeded: shift) &- 1
    return PhysicalAddress(physical.rawValue | address & mask)
  }
}
