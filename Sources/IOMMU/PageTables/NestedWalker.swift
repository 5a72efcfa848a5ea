// SPDX-License-Identifier: Apache-2.0

// Two-stage translation. The addresses in a guest's first-stage table are guest physical addresses,
// and a second-stage table says where the guest's memory is. The second stage translates the
// address of every first-stage entry that a walk loads or updates, and also the first stage's
// output.
//
// Both stages use `RadixWalker`. The first stage walks in `NestedTableMemory`, which translates
// each address before it loads the entry.

/// A second-stage table.
struct SecondStageTable: BitwiseCopyable {
  let root: TableRoot
  /// The highest address that the table can translate.
  let lastAddress: UInt64
}

/// The result of a two-stage walk.
enum NestedOutcome {
  /// The combined translation of the IOVA: the smaller of the two stages' pages, with the
  /// permissions that both stages give. `first` is the translation by the first stage alone.
  case leaf(Translation, first: Translation)
  case fault(NestedFault)
}

/// A fault of a two-stage walk, by stage.
enum NestedFault: Equatable {
  case first(WalkFault)
  /// - Parameters:
  ///   - address: the first stage's output that the second stage could not translate.
  ///   - use: why the walk needed the translation of `address`.
  case second(WalkFault, address: UInt64, use: IntermediateAddressUse)
}

/// Why a two-stage walk translates an address by the second stage.
enum IntermediateAddressUse: Equatable {
  /// To load the first-stage entry at `level`.
  case entry(level: Int)
  /// To set the accessed or dirty flag in the first-stage entry at `level`.
  case flags(level: Int)
  /// To access the data: the address is the first stage's final output.
  case data
}

/// First-stage tables at guest physical addresses.
struct NestedTableMemory<
  Second: WalkableFormat, Guest: TableMemory, Tables: TableMemory
>: TableMemory {
  struct Failure {
    let fault: WalkFault
    let address: UInt64
    let isUpdate: Bool
  }

  private let secondStage: SecondStageTable
  private let rules: UnsafePointer<EntryRules>
  private var guest: Guest
  private var tables: Tables
  /// The second stage's fault when it did not translate the address of a first-stage entry.
  private(set) var failure: Failure?

  /// - Parameters:
  ///   - rules: the unit's rules for second-stage entries. The pointer must stay valid as long as
  ///     this value.
  ///   - guest: the memory at the second stage's output addresses.
  ///   - tables: the memory that holds the second-stage table.
  @inline(__always)
  init(
    _ secondStage: SecondStageTable, rules: UnsafePointer<EntryRules>, guest: Guest, tables: Tables
  ) {
    self.secondStage = secondStage
    self.rules = rules
    self.guest = guest
    self.tables = tables
  }

  /// Translates a guest physical address by the second stage.
  @inline(__always)
  mutating func translate(_ address: UInt64, access: Permissions) -> WalkOutcome {
    guard address <= secondStage.lastAddress else { return .fault(.inputTooWide) }
    return RadixWalker<Second>.walk(
      address, secondStage.root, access: access, rules: rules.pointee, memory: &tables)
  }

  @inline(__always)
  mutating func load(_ address: PhysicalAddress) -> UInt64? {
    guard let physical = entryAddress(address, access: .read) else { return nil }
    return guest.load(physical)
  }

  @inline(__always)
  mutating func update(
    _ address: PhysicalAddress, from old: UInt64, to new: UInt64
  ) -> EntryUpdate {
    guard let physical = entryAddress(address, access: .write) else { return .failed }
    return guest.update(physical, from: old, to: new)
  }

  @inline(__always)
  private mutating func entryAddress(
    _ address: PhysicalAddress, access: Permissions
  ) -> PhysicalAddress? {
    switch translate(address.rawValue, access: access) {
    case .leaf(let page):
      return page.address(of: address.rawValue)
    case .fault(let fault):
      failure = Failure(
        fault: fault, address: address.rawValue, isUpdate: access.contains(.write))
      return nil
    }
  }
}

/// The page walk of two-stage translation.
enum NestedWalker<First: WalkableFormat, Second: WalkableFormat> {
  /// Translates `address` for `access` by both stages.
  /// - Parameter address: must not have more bits than the first-stage table translates.
  @inline(__always)
  static func walk<Guest: TableMemory, Tables: TableMemory>(
    _ address: UInt64, _ root: TableRoot, access: Permissions, rules: borrowing EntryRules,
    tables: inout NestedTableMemory<Second, Guest, Tables>
  ) -> NestedOutcome {
    let first: Translation
    switch RadixWalker<First>.walk(
      address, root, access: access, rules: rules, memory: &tables)
    {
    case .leaf(let page): first = page
    case .fault(let fault): return .fault(nestedFault(fault, tables.failure))
    }
    let intermediate = first.address(of: address).rawValue
    switch tables.translate(intermediate, access: Second.secondStageAccess(for: access)) {
    case .leaf(let second):
      return .leaf(combine(first, second, intermediate), first: first)
    case .fault(let fault):
      return .fault(.second(fault, address: intermediate, use: .data))
    }
  }

  /// Returns the smaller of the two pages, with the permissions that both stages give.
  @inline(__always)
  private static func combine(
    _ first: Translation, _ second: Translation, _ intermediate: UInt64
  ) -> Translation {
    let shift = min(first.shift, second.shift)
    let physical = second.address(of: intermediate).rawValue
    return Translation(
      physical: PhysicalAddress(physical & ~(1 &<< UInt64(truncatingIfNeeded: shift) &- 1)),
      shift: shift,
      permissions: first.permissions.intersection(Second.firstStageRights(of: second.permissions)))
  }

  /// Returns the fault of the stage that caused it. The first stage's walk reports only that an
  /// entry could not be loaded or updated. Where the second stage is the reason, its fault is in
  /// `failure`.
  @inline(__always)
  private static func nestedFault(
    _ fault: WalkFault,
    _ failure: NestedTableMemory<Second, some TableMemory, some TableMemory>.Failure?
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
