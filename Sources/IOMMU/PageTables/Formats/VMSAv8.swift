// SPDX-License-Identifier: Apache-2.0

/// Walks of VMSAv8-64 tables. Each takes one switch on the granule and runs specialised code below
/// it.
enum VMSAv8 {
  /// Returns Arm's number of a level.
  static func level(_ level: Int) -> Int { 3 - level }

  /// Walks a table of stage 1.
  /// - Parameter address: at most the table's `lastAddress`.
  @inline(__always)
  static func walk<Memory: TableMemory>(
    stage1 table: VMSAv8Table, _ address: UInt64, access: Permissions, memory: inout Memory
  ) -> WalkOutcome {
    switch table.granule {
    case .size4K:
      walk(VMSAv8Stage1<Granule4K>.self, table, address, access, &memory)
    case .size16K:
      walk(VMSAv8Stage1<Granule16K>.self, table, address, access, &memory)
    case .size64K:
      walk(VMSAv8Stage1<Granule64K>.self, table, address, access, &memory)
    }
  }

  /// Walks a table of stage 2.
  @inline(__always)
  static func walk<Memory: TableMemory>(
    stage2 table: VMSAv8Table, _ address: UInt64, access: Permissions, memory: inout Memory
  ) -> WalkOutcome {
    guard address <= table.lastAddress else { return .fault(.inputTooWide) }
    return switch table.granule {
    case .size4K:
      walk(VMSAv8Stage2<Granule4K>.self, table, address, access, &memory)
    case .size16K:
      walk(VMSAv8Stage2<Granule16K>.self, table, address, access, &memory)
    case .size64K:
      walk(VMSAv8Stage2<Granule64K>.self, table, address, access, &memory)
    }
  }

  @inline(__always)
  private static func walk<Format: VMSAv8Format, Memory: TableMemory>(
    _: Format.Type, _ table: VMSAv8Table, _ address: UInt64, _ access: Permissions,
    _ memory: inout Memory
  ) -> WalkOutcome {
    RadixWalker<Format>.walk(
      address, table.root, access: access, rules: EntryRules(), memory: &memory)
  }

  /// Translates `address` by stage 1 and stage 2.
  /// - Parameters:
  ///   - guest: the memory at stage 2's output addresses.
  ///   - tables: the memory that holds the tables of stage 2.
  @inline(__always)
  static func walk<Guest: TableMemory, Tables: TableMemory>(
    nested first: VMSAv8Table, in second: VMSAv8Table, _ address: UInt64, access: Permissions,
    guest: Guest, tables: Tables
  ) -> NestedOutcome {
    switch second.granule {
    case .size4K:
      walk(VMSAv8Stage2<Granule4K>.self, first, second, address, access, guest, tables)
    case .size16K:
      walk(VMSAv8Stage2<Granule16K>.self, first, second, address, access, guest, tables)
    case .size64K:
      walk(VMSAv8Stage2<Granule64K>.self, first, second, address, access, guest, tables)
    }
  }

  // Not inlined: nine combinations of granules would be part of every caller.
  @inline(never)
  private static func walk<Second: VMSAv8Format, Guest: TableMemory, Tables: TableMemory>(
    _: Second.Type, _ first: VMSAv8Table, _ second: VMSAv8Table, _ address: UInt64,
    _ access: Permissions, _ guest: Guest, _ tables: Tables
  ) -> NestedOutcome {
    let secondStage = SecondStageTable(root: second.root, lastAddress: second.lastAddress)
    // The format has no reserved bits and does not read the rules.
    let rules = EntryRules()
    return withUnsafePointer(to: rules) { pointer in
      var nested = NestedTableMemory<Second, Guest, Tables>(
        secondStage, rules: pointer, guest: guest, tables: tables)
      return switch first.granule {
      case .size4K:
        NestedWalker<VMSAv8Stage1<Granule4K>, Second>.walk(
          address, first.root, access: access, rules: rules, tables: &nested)
      case .size16K:
        NestedWalker<VMSAv8Stage1<Granule16K>, Second>.walk(
          address, first.root, access: access, rules: rules, tables: &nested)
      case .size64K:
        NestedWalker<VMSAv8Stage1<Granule64K>, Second>.walk(
          address, first.root, access: access, rules: rules, tables: &nested)
      }
    }
  }
}
