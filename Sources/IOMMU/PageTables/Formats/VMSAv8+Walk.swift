// Walks of VMSAv8-64 tables: one switch on the granule each, and specialised code below it.

enum VMSAv8 {
  /// Arm's number of a level.
  static func level(_ level: Int) -> Int { 3 - level }

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

  /// Both stages.
  /// - Parameters:
  ///   - guest: what the second stage's output addresses lead to.
  ///   - tables: where the second stage's tables are.
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

  // Nine combinations: each is a function of its own, not a part of every caller.
  @inline(never)
  private static func walk<Second: VMSAv8Format, Guest: TableMemory, Tables: TableMemory>(
    _: Second.Type, _ first: VMSAv8Table, _ second: VMSAv8Table, _ address: UInt64,
    _ access: Permissions, _ guest: Guest, _ tables: Tables
  ) -> NestedOutcome {
    let stage = SecondStageTable(root: second.root, lastAddress: second.lastAddress)
    // The format has no rules of this kind; none of this is ever looked at.
    let rules = EntryRules()
    return withUnsafePointer(to: rules) { pointer in
      var nested = NestedTableMemory<Second, Guest, Tables>(
        stage, rules: pointer, guest: guest, tables: tables)
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
