// A kernel-managed page table, whatever its format: what a driver's domain holds.
//
// A closed enum rather than an existential: one switch per operation, and everything below it is
// specialised code.

package import SystemPackage

package struct PagingTable: Sendable {
  private enum Table: Sendable {
    case amdGuest(RadixMapper<AMDGuest>)
    case amdv1(RadixMapper<AMDv1>)
    case amdv1Mock(RadixMapper<AMDv1Mock>)
    case vtdFirstStage(RadixMapper<VTdFirstStage>)
    case vtdSecondStage(RadixMapper<VTdSecondStage>)
    case vmsav8Stage1(RadixMapper<VMSAv8Stage1<Granule4K>>)
    case vmsav8Stage2(RadixMapper<VMSAv8Stage2<Granule4K>>)
  }

  private let table: Table
  private let memory: PhysicalMemory
  package let pageSizes: UInt64
  /// What the unit is to be given.
  package let root: PhysicalAddress
  package let topLevel: Int

  private init(_ table: Table, in memory: PhysicalMemory) {
    self.table = table
    self.memory = memory
    switch table {
    case .amdGuest(let mapper): (pageSizes, root, topLevel) = mapper.description
    case .amdv1(let mapper): (pageSizes, root, topLevel) = mapper.description
    case .amdv1Mock(let mapper): (pageSizes, root, topLevel) = mapper.description
    case .vtdFirstStage(let mapper): (pageSizes, root, topLevel) = mapper.description
    case .vtdSecondStage(let mapper): (pageSizes, root, topLevel) = mapper.description
    case .vmsav8Stage1(let mapper): (pageSizes, root, topLevel) = mapper.description
    case .vmsav8Stage2(let mapper): (pageSizes, root, topLevel) = mapper.description
    }
  }

  /// An empty table whose top table is as large as the others.
  private init<Format: WalkableFormat>(
    _ kind: (RadixMapper<Format>) -> Table, levels: Int, pageSizes: UInt64,
    in memory: PhysicalMemory
  ) throws(Errno) {
    let mapper = try RadixMapper<Format>(
      topLevel: levels - 1, pageSizes: pageSizes, memory: memory)
    self.init(kind(mapper), in: memory)
  }

  /// 4 KiB, 2 MiB and 1 GiB: the pages of all formats with tables of 512 entries.
  private static let commonSizes: UInt64 = 1 << 12 | 1 << 21 | 1 << 30

  /// A VT-d first-stage table.
  /// - Parameters:
  ///   - levels: 4 or 5.
  ///   - pageSizes: bit n: pages of 2^n bytes may be used; 4 KiB always.
  package init(
    vtdFirstStageLevels levels: Int, pageSizes: UInt64, memory: PhysicalMemory
  ) throws(Errno) {
    guard (4...5).contains(levels) else { throw .notSupported }
    try self.init(
      Table.vtdFirstStage, levels: levels, pageSizes: pageSizes & Self.commonSizes | 1 << 12,
      in: memory)
  }

  /// A VT-d second-stage table.
  /// - Parameters:
  ///   - levels: 3 to 5.
  ///   - pageSizes: bit n: pages of 2^n bytes may be used; 4 KiB always.
  package init(
    vtdSecondStageLevels levels: Int, pageSizes: UInt64, memory: PhysicalMemory
  ) throws(Errno) {
    guard (3...5).contains(levels) else { throw .notSupported }
    try self.init(
      Table.vtdSecondStage, levels: levels, pageSizes: pageSizes & Self.commonSizes | 1 << 12,
      in: memory)
  }

  /// A stage 1 table of VMSAv8-64 with 4 KiB pages and 48 bits. io-pgtable-arm:
  /// arm_64_lpae_alloc_pgtable_s1()
  package init(vmsav8Stage1In memory: PhysicalMemory) throws(Errno) {
    try self.init(Table.vmsav8Stage1, levels: 4, pageSizes: Self.commonSizes, in: memory)
  }

  /// A stage 2 table of VMSAv8-64 with 4 KiB pages: from level 1 on, with up to 8 tables side by
  /// side, where level 0 would have but a few entries. io-pgtable-arm: arm_64_lpae_alloc_pgtable_s2(),
  /// arm_lpae_concat_mandatory()
  /// - Parameter addressBits: of inputs and outputs, 32 to 48.
  package init(
    vmsav8Stage2AddressBits addressBits: Int, memory: PhysicalMemory
  ) throws(Errno) {
    guard (32...48).contains(addressBits) else { throw .notSupported }
    let bits = addressBits - 12
    var topLevel = (bits + 8) / 9 - 1
    if topLevel == 3, addressBits <= 42 { topLevel = 2 }
    self.init(
      .vmsav8Stage2(
        try RadixMapper(
          topLevel: topLevel, topBits: bits - 9 * topLevel, pageSizes: Self.commonSizes,
          memory: memory)), in: memory)
  }

  /// A host table of AMD-Vi.
  /// - Parameters:
  ///   - levels: 1 to 6.
  ///   - pageSizes: bit n: pages of 2^n bytes may be used, where the format has them.
  package init(
    amdv1Levels levels: Int, pageSizes: UInt64, memory: PhysicalMemory
  ) throws(Errno) {
    guard (1...6).contains(levels) else { throw .notSupported }
    let sizes = pageSizes & AMDv1.sizes(levels: levels, addressBits: 64)
    try self.init(Table.amdv1, levels: levels, pageSizes: sizes, in: memory)
  }

  /// A host table of AMD-Vi of three levels, which has more when it has grown.
  /// - Parameters:
  ///   - addressBits: what it may span when it has.
  ///   - pageSizes: as above.
  package init(
    amdv1AddressBits addressBits: Int, pageSizes: UInt64, memory: PhysicalMemory
  ) throws(Errno) {
    let sizes = pageSizes & AMDv1.sizes(levels: 6, addressBits: addressBits)
    try self.init(Table.amdv1, levels: 3, pageSizes: sizes, in: memory)
  }

  /// A guest table of AMD-Vi, of 4 or 5 levels.
  package init(amdGuestLevels levels: Int, memory: PhysicalMemory) throws(Errno) {
    guard (4...5).contains(levels) else { throw .notSupported }
    try self.init(Table.amdGuest, levels: levels, pageSizes: Self.commonSizes, in: memory)
  }

  /// The same host table of AMD-Vi with one more level on top. The old one is part of it, and is not
  /// used as a table of its own any more.
  package func grown() throws(Errno) -> PagingTable {
    guard case .amdv1(let mapper) = table, topLevel < 5 else { throw .outOfRange }
    return PagingTable(.amdv1(try RadixMapper(above: mapper)), in: memory)
  }

  /// A table of the mock unit: three levels, 38 bits of address.
  /// - Parameter pageSizes: as above; nil: all that the table can have.
  package init(mockWithPageSizes pageSizes: UInt64?, memory: PhysicalMemory) throws(Errno) {
    let sizes = AMDv1Mock.sizes(levels: 3, addressBits: 38) & (pageSizes ?? .max)
    try self.init(Table.amdv1Mock, levels: 3, pageSizes: sizes, in: memory)
  }

  /// Maps `length` bytes with the largest pages that fit.
  /// - Returns: the bytes that are mapped, `length` unless there is an error, and tables to be freed
  ///   after an invalidation.
  package func map(
    _ iova: IOVA, to physical: PhysicalAddress, length: UInt64, permissions: Permissions,
    snoops: Bool
  ) -> (mapped: UInt64, error: Errno?, retired: RetiredTables) {
    func map<Format>(
      _ mapper: RadixMapper<Format>
    ) -> (mapped: UInt64, error: Errno?, retired: RetiredTables) {
      var mapping = RadixMapper<Format>.Mapping(
        iova: iova.rawValue, physical: physical.rawValue, left: length, permissions: permissions,
        snoops: snoops)
      let error = mapper.map(&mapping)
      return (length - mapping.left, error, mapping.retired)
    }
    return switch table {
    case .amdGuest(let mapper): map(mapper)
    case .amdv1(let mapper): map(mapper)
    case .amdv1Mock(let mapper): map(mapper)
    case .vtdFirstStage(let mapper): map(mapper)
    case .vtdSecondStage(let mapper): map(mapper)
    case .vmsav8Stage1(let mapper): map(mapper)
    case .vmsav8Stage2(let mapper): map(mapper)
    }
  }

  /// Unmaps whole entries of the range up to the first hole.
  package func unmap(_ iova: IOVA, length: UInt64) -> UnmapResult {
    switch table {
    case .amdGuest(let mapper): mapper.unmap(iova.rawValue, length: length)
    case .amdv1(let mapper): mapper.unmap(iova.rawValue, length: length)
    case .amdv1Mock(let mapper): mapper.unmap(iova.rawValue, length: length)
    case .vtdFirstStage(let mapper): mapper.unmap(iova.rawValue, length: length)
    case .vtdSecondStage(let mapper): mapper.unmap(iova.rawValue, length: length)
    case .vmsav8Stage1(let mapper): mapper.unmap(iova.rawValue, length: length)
    case .vmsav8Stage2(let mapper): mapper.unmap(iova.rawValue, length: length)
    }
  }

  /// Frees tables that an operation retired. No walk may be in them any more.
  package func free(_ retired: RetiredTables) {
    retired.forEach { memory.freeTable($0, isClear: retired.areClear) }
  }

  /// - Parameter iova: within what the levels span.
  package func physicalAddress(of iova: IOVA) -> PhysicalAddress? {
    switch table {
    case .amdGuest(let mapper): mapper.physicalAddress(of: iova.rawValue)
    case .amdv1(let mapper): mapper.physicalAddress(of: iova.rawValue)
    case .amdv1Mock(let mapper): mapper.physicalAddress(of: iova.rawValue)
    case .vtdFirstStage(let mapper): mapper.physicalAddress(of: iova.rawValue)
    case .vtdSecondStage(let mapper): mapper.physicalAddress(of: iova.rawValue)
    case .vmsav8Stage1(let mapper): mapper.physicalAddress(of: iova.rawValue)
    case .vmsav8Stage2(let mapper): mapper.physicalAddress(of: iova.rawValue)
    }
  }

  /// Reports the pages that were written to: see ``RadixMapper/readDirty(_:clearing:_:)``.
  /// - Parameter range: within what the levels span.
  package func readDirty(
    _ range: ClosedRange<UInt64>, clearing: Bool, _ report: (UInt64, UInt64) -> Void
  ) {
    switch table {
    case .amdGuest(let mapper): mapper.readDirty(range, clearing: clearing, report)
    case .amdv1(let mapper): mapper.readDirty(range, clearing: clearing, report)
    case .amdv1Mock(let mapper): mapper.readDirty(range, clearing: clearing, report)
    case .vtdFirstStage(let mapper): mapper.readDirty(range, clearing: clearing, report)
    case .vtdSecondStage(let mapper): mapper.readDirty(range, clearing: clearing, report)
    case .vmsav8Stage1(let mapper): mapper.readDirty(range, clearing: clearing, report)
    case .vmsav8Stage2(let mapper): mapper.readDirty(range, clearing: clearing, report)
    }
  }

  /// Marks the entry of `iova`, within what the levels span, as written through.
  package func setDirty(_ iova: IOVA) -> Bool {
    switch table {
    case .amdGuest(let mapper): mapper.setDirty(iova.rawValue)
    case .amdv1(let mapper): mapper.setDirty(iova.rawValue)
    case .amdv1Mock(let mapper): mapper.setDirty(iova.rawValue)
    case .vtdFirstStage(let mapper): mapper.setDirty(iova.rawValue)
    case .vtdSecondStage(let mapper): mapper.setDirty(iova.rawValue)
    case .vmsav8Stage1(let mapper): mapper.setDirty(iova.rawValue)
    case .vmsav8Stage2(let mapper): mapper.setDirty(iova.rawValue)
    }
  }

  /// Frees the whole table. No unit may know it any more.
  package func destroy() {
    switch table {
    case .amdGuest(let mapper): mapper.destroy()
    case .amdv1(let mapper): mapper.destroy()
    case .amdv1Mock(let mapper): mapper.destroy()
    case .vtdFirstStage(let mapper): mapper.destroy()
    case .vtdSecondStage(let mapper): mapper.destroy()
    case .vmsav8Stage1(let mapper): mapper.destroy()
    case .vmsav8Stage2(let mapper): mapper.destroy()
    }
  }
}

extension RadixMapper {
  fileprivate var description: (pageSizes: UInt64, root: PhysicalAddress, topLevel: Int) {
    (pageSizes, root, topLevel)
  }
}

extension AMDv1Format {
  /// Every page size of a table; a page must be smaller than half of what the table spans.
  /// generic_pt: get_info()
  fileprivate static func sizes(levels: Int, addressBits: Int) -> UInt64 {
    let sizes = (0..<levels).reduce(0) { $0 | possibleSizes(level: $1) }
    return sizes & (1 << UInt64(min(addressBits, tableShift(levels - 1)) - 1) - 1)
  }
}
